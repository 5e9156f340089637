package main

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// bundle writes HXEN.app into a zip archive: the programs of -bin, which are signed
// already, its list of properties, and its icon.
func (j job) bundle() error {
	plist, err := assets.ReadFile("assets/Info.plist")
	if err != nil {
		return err
	}
	icon, err := icns()
	if err != nil {
		return err
	}
	type entry struct {
		name    string
		mode    fs.FileMode
		content []byte
	}
	list := []entry{{"Info.plist", 0o644, j.fillBundle(plist)}, {"PkgInfo", 0o644, []byte("APPL????")}, {"Resources/hxen.icns", 0o644, icon}}
	for _, p := range programs {
		b, err := os.ReadFile(filepath.Join(j.bin, p.name))
		if os.IsNotExist(err) && p.name == "hxen-desktop" {
			continue // which a Mac has to build
		}
		if err != nil {
			return err
		}
		list = append(list, entry{"MacOS/" + p.name, 0o755, b})
	}
	out, err := os.Create(j.out)
	if err != nil {
		return err
	}
	defer out.Close()
	z := zip.NewWriter(out)
	for _, e := range list {
		h := &zip.FileHeader{Name: "HXEN.app/Contents/" + e.name, Method: zip.Deflate, Modified: time.Unix(j.stamp, 0).UTC()}
		h.SetMode(e.mode)
		w, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := w.Write(e.content); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	return out.Close()
}

// fillBundle puts the version into the list of properties: three numbers at most.
func (j job) fillBundle(plist []byte) []byte {
	version, _, _ := strings.Cut(strings.TrimPrefix(j.version, "v"), "-")
	if version == "" || version[0] < '0' || version[0] > '9' || !strings.Contains(version, ".") {
		version = "0.0.0"
	}
	return bytes.ReplaceAll(plist, []byte("@VERSION@"), []byte(version))
}

// icns puts the icon's pictures into the container that the Finder reads: "icns"
// and its length, then for each picture what it is, its length, and a PNG.
func icns() ([]byte, error) {
	var body []byte
	for _, i := range []struct{ kind, file string }{
		{"icp4", "16"}, {"icp5", "32"}, {"ic07", "128"}, {"ic08", "256"}, {"ic09", "512"}, {"ic11", "32"}, {"ic12", "64"}, {"ic13", "256"}, {"ic14", "512"},
	} {
		png, err := assets.ReadFile("assets/icons/" + i.file + ".png")
		if err != nil {
			return nil, err
		}
		body = append(binary.BigEndian.AppendUint32(append(body, i.kind...), uint32(len(png)+8)), png...)
	}
	return append(binary.BigEndian.AppendUint32([]byte("icns"), uint32(len(body)+8)), body...), nil
}
