package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"
)

// nfpmText is nfpm's configuration: https://nfpm.goreleaser.com/configuration/.
// Names of dependencies differ between the two families. They are recommended
// only: a server without a screen does without the window's libraries, as the
// command line does, and QEMU may be one that somebody built. The setup program is
// not in a package: there the package manager repairs, upgrades and removes.
const nfpmText = `name: hxen
arch: amd64
platform: linux
version: "{{.Version}}"
version_schema: none
section: otherosfs
priority: optional
maintainer: The HXEN project <hxen@hxen-project.invalid>
description: |-
  Run virtual machines on your desktop
  A window and a command line for virtual machines, with Xen's words: guests
  run in QEMU or, as Xen PVH guests, on an engine of HXEN's own, on the
  computer's hypervisor where it works.
vendor: The HXEN project
homepage: https://github.com/hxen-project/hxen
license: Apache-2.0
mtime: "{{.Time}}"
contents:
{{- range .Contents}}
  - src: "{{.Src}}"
    dst: "{{.Dst}}"
{{- if .Link}}
    type: symlink
{{- else}}
    file_info:
      mode: 0{{printf "%o" .Mode}}
{{- end}}
{{- end}}
scripts:
  postinstall: "{{.Scripts}}/postinstall"
  preremove: "{{.Scripts}}/preremove"
overrides:
  deb:
    recommends: [qemu-system-x86, qemu-utils, ovmf, libgl1, libwayland-client0, libx11-6, libxkbcommon0]
    suggests: [busybox-static, swtpm]
  rpm:
    recommends: [qemu-system-x86, qemu-img, edk2-ovmf, libglvnd-glx, libwayland-client, libX11, libxkbcommon]
    suggests: [swtpm]
`

type content struct {
	Src, Dst string
	Mode     uint32
	Link     bool
}

// nfpm writes the files as a distribution's package has them, below out/root, and
// nfpm's configuration beside them.
func (j job) nfpm() error {
	all, err := j.installation()
	if err != nil {
		return err
	}
	var list []content
	for _, f := range all {
		dst := "/usr/" + f.Path
		if f.Link != "" {
			list = append(list, content{Src: f.Link, Dst: dst, Link: true})
			continue
		}
		src := clean(filepath.Join(j.out, "root"), f.Path)
		if err := writeFile(src, prefixed(f, "/usr"), fs.FileMode(f.Mode)); err != nil {
			return err
		}
		list = append(list, content{Src: src, Dst: dst, Mode: f.Mode})
	}
	scripts := filepath.Join(j.out, "scripts")
	for _, name := range []string{"postinstall", "preremove"} {
		b, err := assets.ReadFile("assets/scripts/" + name)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(scripts, name), b, 0o755); err != nil {
			return err
		}
	}
	var b bytes.Buffer
	err = template.Must(template.New("nfpm").Parse(nfpmText)).Execute(&b, map[string]any{
		"Version": packageVersion(j.version, j.stamp), "Contents": list, "Scripts": scripts,
		"Time": time.Unix(j.stamp, 0).UTC().Format(time.RFC3339),
	})
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(j.out, "nfpm.yaml"), b.Bytes(), 0o644)
}

// sbom writes a bill of materials (CycloneDX 1.5): the Go modules that the
// programs were built from, as the programs themselves say.
func (j job) sbom() error {
	type component struct {
		Type    string `json:"type"`
		Name    string `json:"name"`
		Version string `json:"version"`
		PURL    string `json:"purl"`
	}
	found := map[string]component{}
	for name := range strings.SplitSeq(j.bin, ",") {
		info, err := buildinfo.ReadFile(name)
		if err != nil {
			return err
		}
		found["go"] = component{"library", "stdlib", info.GoVersion, "pkg:golang/stdlib@" + strings.TrimPrefix(info.GoVersion, "go")}
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			found[m.Path] = component{"library", m.Path, m.Version, "pkg:golang/" + m.Path + "@" + m.Version}
		}
	}
	var list []component
	for _, c := range found {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b component) int { return strings.Compare(a.Name, b.Name) })
	b, err := json.MarshalIndent(map[string]any{
		"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
		"metadata": map[string]any{
			"timestamp": time.Unix(j.stamp, 0).UTC().Format(time.RFC3339),
			"component": map[string]string{"type": "application", "name": "hxen", "version": j.version},
		},
		"components": list,
	}, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(j.out, append(b, '\n'), 0o644)
}

// sums writes the sha256 of files, as sha256sum -c reads it.
func (j job) sums() error {
	var b bytes.Buffer
	slices.Sort(j.args)
	for _, name := range j.args {
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(content), filepath.Base(name))
	}
	return writeFile(j.out, b.Bytes(), 0o644)
}
