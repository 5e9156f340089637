package hvtest_test

import (
	"debug/pe"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestLabWHP runs the Windows Hypervisor Platform back end as a Windows program
// under wine, on a stand-in for winhvplatform.dll that stands on the lab's KVM
// (platform/accel/whp/standin): the probe's guest code, and on a new and on an old
// platform the accel port's conformance suite and a Debian kernel as a guest. The
// kernel of the lab is the one whose KVM hands hypercalls on. HXEN_WHP_RUN (a regexp)
// chooses guests' tests.
func TestLabWHP(t *testing.T) {
	if os.Getenv("HXEN_WHP") == "" {
		t.Skip("make test-whp runs it")
	}
	hvtest.RequireLab(t)
	hvtest.Require(t, "wine", "mingw")
	w := &winLab{dir: t.TempDir(), files: map[string]string{}}
	w.prefix(t)
	w.put("winhvplatform.dll", standIn(t))
	w.wine(t)
	addGuest(t, w.files, "0-own", "linux-image-amd64")
	guests := "^TestGuest(Kernels|Sizes)$"
	if run := os.Getenv("HXEN_WHP_RUN"); run != "" {
		guests = run
	}
	probe, conformance, worker := w.test(t, "platform/accel"), w.test(t, "platform/accel/whp"), w.test(t, "app/cmd/hxen-worker")
	hvtest.LabSuite{
		// Wine returns from exceptions by IRET, whose reads QEMU 7.2 takes for the
		// kernel's own: with SMAP that is a fault.
		Lab: hvtest.Lab{Kernel: "linux-image-6.12-cloud-amd64", Files: w.files, Timeout: 50 * time.Minute, CPU: ",-smap"},
		Binaries: []hvtest.LabBinary{
			{Name: "probe", Path: w.script(t, "probe", "", probe), Args: []string{"-test.run", "^TestGuestCode$"}, Timeout: 10 * time.Minute},
			{Name: "whp", Path: w.script(t, "whp", "", conformance), Args: []string{"-test.run", "^TestConformance$"}, Timeout: 10 * time.Minute},
			{Name: "whp1809", Path: w.script(t, "whp1809", "1809", conformance), Args: []string{"-test.run", "^TestConformance$"}, Timeout: 10 * time.Minute},
			{Name: "guests", Path: w.script(t, "guests", "", worker), Args: []string{"-test.short", "-test.run", guests}, Timeout: 15 * time.Minute},
			{Name: "guests1809", Path: w.script(t, "guests1809", "1809", worker), Args: []string{"-test.short", "-test.run", guests}, Timeout: 15 * time.Minute},
		},
	}.Run(t)
}

// standIn builds the stand-in.
func standIn(t *testing.T) string {
	dll := filepath.Join(t.TempDir(), "winhvplatform.dll")
	build := exec.Command("sh", "-c", `exec x86_64-w64-mingw32-gcc -std=gnu17 -O1 -Wall -Wno-parentheses -shared -o "$0" \
		-idirafter /usr/include -idirafter "/usr/include/$(gcc -print-multiarch)" *.c`, dll)
	build.Dir = "../../platform/accel/whp/standin"
	if b, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the stand-in for winhvplatform.dll: %v\n%s", err, b)
	}
	return dll
}

// winLab collects what a lab needs to run Windows programs. Wine itself lies where
// it is installed here, below /lab/root; the lab's programs and libraries are few,
// so that only the DLLs go along that these need.
type winLab struct {
	dir   string            // for what is made here
	files map[string]string // as of hvtest.Lab
	dlls  []string          // ours
}

const labRoot = "root"

func (w *winLab) put(dll, from string) {
	w.files["prefix/drive_c/windows/system32/"+dll] = from
	w.dlls = append(w.dlls, from)
}

// prefix makes wine's registry here, which takes a minute in the lab, and wine's
// missing DLL with it (.ci/wine).
func (w *winLab) prefix(t *testing.T) {
	prefix := filepath.Join(w.dir, "prefix")
	server, err := exec.LookPath("wineserver")
	if err != nil {
		server = "/usr/lib/wine/wineserver64"
	}
	env := append(os.Environ(), "WINEPREFIX="+prefix)
	for _, args := range [][]string{{"../../.ci/wine", "cmd", "/c", "exit"}, {server, "-k"}, {server, "-w"}} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = env
		if b, err := cmd.CombinedOutput(); err != nil && args[len(args)-1] != "-k" {
			t.Fatalf("make wine's folder: %v: %v\n%s", args, err, b)
		}
	}
	for _, f := range []string{"system.reg", "user.reg", "userdef.reg", ".update-timestamp"} {
		w.files["prefix/"+f] = filepath.Join(prefix, f)
	}
	w.put("bcryptprimitives.dll", filepath.Join(prefix, "drive_c/windows/system32/bcryptprimitives.dll"))
}

// test builds a package's tests for Windows.
func (w *winLab) test(t *testing.T, path string) string {
	name := filepath.Base(path) + ".exe"
	w.files["windows/"+name] = hvtest.TestBinary(t, path, "GOOS=windows", "GOARCH=amd64")
	return name
}

// wine adds wine: its loader and server, the DLLs that Go's programs and ours load,
// their halves for Linux, and the libraries of those.
func (w *winLab) wine(t *testing.T) {
	dirs, err := filepath.Glob("/usr/lib/*/wine/x86_64-windows")
	if err != nil || len(dirs) != 1 {
		hvtest.RequireThat(t, "wine", fmt.Sprintf("wine's DLLs are in %q", dirs))
	}
	windows, unix := dirs[0], filepath.Join(filepath.Dir(dirs[0]), "x86_64-unix")
	todo := []string{"ntdll.dll", "apisetschema.dll", "kernel32.dll", "powrprof.dll", "ws2_32.dll", "iphlpapi.dll", "userenv.dll", "shell32.dll", "mswsock.dll"}
	for _, dll := range w.dlls {
		todo = append(todo, imports(t, dll)...)
	}
	programs := []string{"/usr/lib/wine/wine64", "/usr/lib/wine/wineserver64"}
	for seen := map[string]bool{}; len(todo) > 0; {
		dll := strings.ToLower(todo[0])
		todo = todo[1:]
		path := filepath.Join(windows, dll)
		if _, err := os.Stat(path); err != nil || seen[dll] {
			continue // one of ours, or an API set
		}
		seen[dll] = true
		w.files[labRoot+path] = path
		w.files["prefix/drive_c/windows/system32/"+dll] = path
		todo = append(todo, imports(t, path)...)
		if half := filepath.Join(unix, strings.TrimSuffix(dll, ".dll")+".so"); exec.Command("test", "-e", half).Run() == nil {
			programs = append(programs, half)
		}
	}
	w.files[labRoot+"/usr/share/wine/nls"] = "/usr/share/wine/nls"
	for _, p := range programs {
		w.files[labRoot+p] = p
		out, err := exec.Command("ldd", p).Output()
		if err != nil {
			t.Fatalf("ldd %s: %v", p, err)
		}
		for _, word := range strings.Fields(string(out)) {
			if filepath.IsAbs(word) {
				w.files[labRoot+word] = word
			}
			if filepath.Base(word) == "libc.so.6" && filepath.IsAbs(word) { // which loads it when a thread ends
				gcc := filepath.Join(filepath.Dir(word), "libgcc_s.so.1")
				w.files[labRoot+gcc] = gcc
			}
		}
	}
}

// imports are the DLLs that a DLL is linked to.
func imports(t *testing.T, path string) []string {
	f, err := pe.Open(path)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	defer f.Close()
	symbols, err := f.ImportedSymbols() // "symbol:dll"
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var out []string
	seen := map[string]bool{}
	for _, s := range symbols {
		if _, dll, _ := strings.Cut(s, ":"); !seen[dll] {
			seen[dll] = true
			out = append(out, dll)
		}
	}
	return out
}

// script is what LabSuite runs for a Windows program. The first makes wine's folder,
// without the program that would set it up again, and links to wine.
func (w *winLab) script(t *testing.T, name, standIn, exe string) string {
	path := filepath.Join(w.dir, name+".sh")
	text := `#!/bin/sh
export WINEPREFIX=/tmp/wine WINEARCH=win64 WINEDEBUG=-all WINEDLLOVERRIDES="mscoree,mshtml=" WINESERVER=/usr/lib/wine/wineserver64
export HXEN_LAB='Z:\lab' HXEN_STANDIN=` + standIn + `
if ! [ -e $WINEPREFIX ]; then
	mkdir -p $WINEPREFIX/dosdevices $WINEPREFIX/drive_c/users/root/Temp
	cp -r /lab/prefix/. $WINEPREFIX
	ln -s ../drive_c $WINEPREFIX/dosdevices/c:
	ln -s / $WINEPREFIX/dosdevices/z:
	for d in /lab/` + labRoot + `/*; do ln -s $d /${d##*/}; done
fi
# A terminal would have wine look for its console's program.
[ -p /tmp/said ] || mkfifo /tmp/said
/usr/lib/wine/wine64 'Z:\lab\windows\` + exe + `' "$@" </dev/null >/tmp/said 2>&1 &
cat /tmp/said
wait $!
`
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
