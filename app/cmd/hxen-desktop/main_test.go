package main

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args               []string
		console, open, iso string
		version            bool
		problem            string
	}{
		{args: nil},
		{args: []string{"--console", "a b"}, console: "a b"},
		{args: []string{"--open", "demo"}, open: "demo"},
		{args: []string{"--version"}, version: true},
		{args: []string{"x.iso"}, iso: filepath.Join(wd, "x.iso")},
		{args: []string{"file:///isos/y.iso"}, iso: "/isos/y.iso"},
		{args: []string{"a.iso", "b.iso"}, problem: "only one file"},
		{args: []string{"--open", "a", "b.iso"}, problem: "either a file"},
		{args: []string{"--open", "a", "--console", "b"}, problem: "either --console or --open"},
	} {
		o, version, err := parse(c.args)
		if c.problem != "" {
			if err == nil || !strings.Contains(err.Error(), c.problem) {
				t.Errorf("%q: %v", c.args, err)
			}
			continue
		}
		if err != nil || o.Console != c.console || o.Open != c.open || o.ISO != c.iso || version != c.version {
			t.Errorf("%q: %+v %v %v", c.args, o, version, err)
		}
	}
}

func TestHelpIsNoFailure(t *testing.T) {
	if _, _, err := parse([]string{"--help"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("error %v", err)
	}
	if code, err := run([]string{"--help"}); code != 0 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
	if code, err := run([]string{"--nonsense"}); code != exitUsage || err == nil {
		t.Errorf("code %d, %v", code, err)
	}
}
