package main

import (
	"archive/zip"
	"compress/flate"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hxen-project/hxen/installer/steps"
)

// makePayload writes the zip archive that the setup program carries, and prints
// the sum of its list, which is built into that program.
func (j job) makePayload() error {
	all, err := j.contents()
	if err != nil {
		return err
	}
	m := steps.Manifest{Version: j.version, Stamp: j.stamp}
	for i, f := range all {
		if f.Link == "" && !f.Self && !f.Prefixed {
			sum := sha256.Sum256(f.content)
			all[i].Size, all[i].Sum = int64(len(f.content)), hex.EncodeToString(sum[:])
		}
		m.Files = append(m.Files, all[i].File)
	}
	list, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	out, err := os.Create(j.out)
	if err != nil {
		return err
	}
	defer out.Close()
	z := zip.NewWriter(out)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	if err := j.put(z, steps.ManifestName, zip.Deflate, list); err != nil {
		return err
	}
	if j.wizard != "" {
		b, err := os.ReadFile(j.wizard)
		if err != nil {
			return err
		}
		// Stored: the first page should not wait for its unpacking.
		if err := j.put(z, steps.WizardName, zip.Store, b); err != nil {
			return err
		}
	}
	for _, f := range all {
		if f.Link != "" || f.Self {
			continue
		}
		if err := j.put(z, steps.FilesDir+f.Path, zip.Deflate, f.content); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	sum := sha256.Sum256(list)
	fmt.Println(hex.EncodeToString(sum[:]))
	return out.Close()
}

func (j job) put(z *zip.Writer, name string, method uint16, b []byte) error {
	h := &zip.FileHeader{Name: name, Method: method, Modified: time.Unix(j.stamp, 0).UTC()}
	h.SetMode(0o644)
	w, err := z.CreateHeader(h)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// attach puts the payload behind the setup program.
func (j job) attach() error {
	b, err := os.ReadFile(j.payload)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(j.program, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	return f.Close()
}
