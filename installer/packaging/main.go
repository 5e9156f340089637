// Command packaging makes HXEN's artefacts from built programs: the payload that
// the setup program carries, the lists from which distribution packages are made,
// checksums and a bill of materials. "make dist" calls it; all it writes depends
// on its arguments only, so that two builds are the same.
//
//	packaging payload -bin DIR -share DIR -version V -stamp N -out FILE   prints the list's sum
//	packaging payload -system windows -bin DIR ...
//	packaging attach  -program FILE -payload FILE
//	packaging nfpm    -bin DIR -share DIR -version V -out DIR
//	packaging sbom    -bin FILE,FILE -version V -stamp N -out FILE
//	packaging sums    -out FILE FILE...
//	packaging macsign PROGRAM...
//	packaging bundle  -bin DIR -version V -stamp N -out FILE.zip
package main

import (
	"embed"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hxen-project/hxen/installer/plan"
	"github.com/hxen-project/hxen/installer/steps"
)

//go:embed assets
var assets embed.FS

// job is the command line.
type job struct {
	bin, share, version, out, program, payload, wizard, icon, system string
	stamp                                                            int64
	args                                                             []string
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("name a job: payload, attach, nfpm, sbom, sums, macsign or bundle")
	}
	var j job
	f := flag.NewFlagSet("packaging "+args[0], flag.ContinueOnError)
	f.StringVar(&j.bin, "bin", "", "the folder of the built programs; for sbom, programs")
	f.StringVar(&j.share, "share", "", "the folder of manual pages and completions")
	f.StringVar(&j.version, "version", "", "the version")
	f.Int64Var(&j.stamp, "stamp", 0, "when that version was made, in Unix seconds")
	f.StringVar(&j.out, "out", "", "what is written")
	f.StringVar(&j.program, "program", "", "the setup program")
	f.StringVar(&j.payload, "payload", "", "the payload")
	f.StringVar(&j.icon, "icon", "app/desktop/icons/hxen.svg", "the icon")
	f.StringVar(&j.wizard, "wizard", "", "the wizard's program")
	f.StringVar(&j.system, "system", "linux", "the system that the payload is for")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	j.args = f.Args()
	switch args[0] {
	case "payload":
		return j.makePayload()
	case "attach":
		return j.attach()
	case "nfpm":
		return j.nfpm()
	case "sbom":
		return j.sbom()
	case "sums":
		return j.sums()
	case "macsign":
		return j.signMac()
	case "bundle":
		return j.bundle()
	}
	return fmt.Errorf("there is no job %q", args[0])
}

// file is a file of the installation and its content.
type file struct {
	steps.File
	content []byte
}

// programs are below lib/hxen, where they find each other; what people call has
// a link in bin.
var programs = []struct {
	name      string
	component plan.Component
	link      bool
}{
	{"hxen", plan.Command, true},
	{"hxen-worker", plan.Command, false},
	{"hxen-netd", plan.Command, false},
	{"hxen-desktop", plan.Window, true},
}

// installation lists what is installed on Linux, without the setup itself, in the
// order of paths.
func (j job) installation() ([]file, error) {
	var out []file
	add := func(name string, mode uint32, c plan.Component, content []byte) {
		out = append(out, file{steps.File{Path: name, Mode: mode, Component: c, Prefixed: strings.HasSuffix(name, ".desktop")}, content})
	}
	for _, p := range programs {
		b, err := os.ReadFile(filepath.Join(j.bin, p.name))
		if err != nil {
			return nil, err
		}
		add("lib/hxen/"+p.name, 0o755, p.component, b)
		if p.link {
			out = append(out, file{File: steps.File{Path: "bin/" + p.name, Link: "../lib/hxen/" + p.name, Component: p.component}})
		}
	}
	err := fs.WalkDir(os.DirFS(j.share), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(j.share, filepath.FromSlash(name)))
		add("share/"+name, 0o644, plan.Command, b)
		return err
	})
	if err != nil {
		return nil, err
	}
	for from, to := range map[string]string{
		"hxen.desktop":  "share/applications/hxen.desktop",
		"metainfo.xml":  "share/metainfo/io.github.hxen_project.hxen.metainfo.xml",
		"hxen-mime.xml": "share/mime/packages/hxen.xml",
	} {
		b, err := assets.ReadFile("assets/" + from)
		if err != nil {
			return nil, err
		}
		add(to, 0o644, plan.Window, j.fill(b))
	}
	icon, err := os.ReadFile(j.icon)
	if err != nil {
		return nil, err
	}
	add("share/icons/hicolor/scalable/apps/hxen.svg", 0o644, plan.Window, icon)
	icons, err := assets.ReadDir("assets/icons")
	if err != nil {
		return nil, err
	}
	for _, i := range icons {
		b, err := assets.ReadFile("assets/icons/" + i.Name())
		if err != nil {
			return nil, err
		}
		size := strings.TrimSuffix(i.Name(), ".png")
		add("share/icons/hicolor/"+size+"x"+size+"/apps/hxen.png", 0o644, plan.Window, b)
	}
	slices.SortFunc(out, func(a, b file) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// forWindows lists what is installed there: the programs, all in one folder, and
// the setup itself. Menus and file types are the registry's.
func (j job) forWindows() ([]file, error) {
	var out []file
	for _, p := range programs {
		name := p.name + ".exe"
		b, err := os.ReadFile(filepath.Join(j.bin, name))
		if err != nil {
			return nil, err
		}
		out = append(out, file{steps.File{Path: name, Mode: 0o755, Component: p.component}, b})
	}
	return append(out, file{steps.File{Path: "hxen-setup.exe", Mode: 0o755, Component: plan.Command, Self: true}, nil}), nil
}

// contents are the files of the payload.
func (j job) contents() ([]file, error) {
	switch j.system {
	case "windows":
		return j.forWindows()
	case "linux":
	default:
		return nil, fmt.Errorf("there is no payload for %q", j.system)
	}
	all, err := j.installation()
	if err != nil {
		return nil, err
	}
	own, err := j.setupFiles()
	return append(all, own...), err
}

// fill puts the version into a text.
func (j job) fill(b []byte) []byte {
	s := strings.ReplaceAll(string(b), "@VERSION@", packageVersion(j.version, j.stamp))
	return []byte(strings.ReplaceAll(s, "@DATE@", time.Unix(j.stamp, 0).UTC().Format(time.DateOnly)))
}

// packageVersion is a version that package managers order: theirs begin with a
// digit. A build between releases has the time of its commit.
func packageVersion(version string, stamp int64) string {
	v := strings.TrimPrefix(version, "v")
	if v != "" && v[0] >= '0' && v[0] <= '9' && strings.Contains(v, ".") {
		return strings.ReplaceAll(v, "-", "+")
	}
	return "0.0.0+" + time.Unix(stamp, 0).UTC().Format("20060102150405") + "." + strings.ReplaceAll(v, "-", ".")
}

// setupFiles are what only the setup program installs: itself.
func (j job) setupFiles() ([]file, error) {
	b, err := assets.ReadFile("assets/hxen-setup.desktop")
	if err != nil {
		return nil, err
	}
	return []file{
		{steps.File{Path: "lib/hxen/hxen-setup", Mode: 0o755, Component: plan.Command, Self: true}, nil},
		{steps.File{Path: "bin/hxen-setup", Link: "../lib/hxen/hxen-setup", Component: plan.Command}, nil},
		{steps.File{Path: "share/applications/hxen-setup.desktop", Mode: 0o644, Component: plan.Window, Prefixed: true}, b},
	}, nil
}

func prefixed(f file, prefix string) []byte {
	if !f.Prefixed {
		return f.content
	}
	return []byte(strings.ReplaceAll(string(f.content), steps.PrefixMark, prefix))
}

func writeFile(name string, b []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, b, mode)
}

// clean is a path below dir for a slash path.
func clean(dir, name string) string { return filepath.Join(dir, filepath.FromSlash(path.Clean(name))) }
