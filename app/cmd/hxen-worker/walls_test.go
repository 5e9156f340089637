package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/hxen-project/hxen/app/control"
)

// TestGranted: of all files a confined worker gets the one that the service grants.
func TestGranted(t *testing.T) {
	dir := t.TempDir()
	path, grant := filepath.Join(dir, "cd.iso"), filepath.Join(dir, "grant.json")
	if err := os.WriteFile(path, []byte("a CD"), 0o600); err != nil {
		t.Fatal(err)
	}
	try := func(path string, write bool) error {
		f, err := openGranted(grant, path, write)
		if err == nil {
			f.Close()
		}
		return err
	}
	if try(path, false) == nil {
		t.Error("opened without a grant")
	}
	b, err := json.Marshal(control.Grant{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(grant, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := try(path, false); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"written to": try(path, true), "another file": try("/etc/passwd", false), "the same otherwise named": try(dir+"/./cd.iso", false),
	} {
		if err == nil {
			t.Errorf("%s: opened", what)
		}
	}
}
