package steps

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
	"github.com/hxen-project/hxen/platform/access"
	"github.com/hxen-project/hxen/platform/hostinfo"
)

// Names of the installed programs below the prefix.
const (
	hxenPath    = "hxen.exe"
	desktopPath = "hxen-desktop.exe"
	setupPath   = "hxen-setup.exe"
)

func programFiles() string {
	if d := os.Getenv("ProgramFiles"); d != "" {
		return d
	}
	return `C:\Program Files`
}

// bases are the folders below which an installation may write.
func (s *Setup) bases(scope plan.Scope) []string {
	if scope == plan.User {
		return []string{s.Home}
	}
	return []string{s.Host.at(programFiles())}
}

// Prefix is the folder that is proposed.
func (s *Setup) Prefix(scope plan.Scope) string {
	if scope == plan.User {
		return filepath.Join(s.Home, "AppData", "Local", "Programs", "HXEN")
	}
	return filepath.Join(s.Host.at(programFiles()), "HXEN")
}

// canAsk: Windows asks anybody for an administrator's consent or password.
func (s *Setup) canAsk() bool { return true }

// Serves reports whether a service can start guests for this scope: Windows has
// none of one user.
func Serves(scope plan.Scope) bool { return scope == plan.System }

// AccelOption is what plan.Options.KVM is called here, and what it does.
func AccelOption() (name, what string) {
	return text.T("Windows' hypervisor"), text.T("Switches the Windows Hypervisor Platform on; Windows may have to be restarted.")
}

// accelFix: DISM can switch on the platform where it is missing.
func (s *Setup) accelFix(c hostinfo.Check) Fix {
	if c.ID == "accelerator.whpx" && strings.Contains(c.Cure, "Turn Windows features on or off") {
		return FixKVM
	}
	return ""
}

// programs is the Start menu's folder of programs.
func programs(scope plan.Scope) string {
	id := windows.FOLDERID_CommonPrograms
	if scope == plan.User {
		id = windows.FOLDERID_Programs
	}
	dir, err := windows.KnownFolderPath(id, windows.KF_FLAG_CREATE)
	if err != nil {
		return `C:\ProgramData\Microsoft\Windows\Start Menu\Programs` // writing there says what is wrong
	}
	return dir
}

// Keys of the registry below that of the computer or of the user.
const (
	uninstallKey   = `Software\Microsoft\Windows\CurrentVersion\Uninstall\HXEN`
	classesKey     = `Software\Classes\`
	environmentAll = `SYSTEM\CurrentControlSet\Control\Session Manager\Environment`
	environmentOwn = `Environment`
)

// desktopSteps make Windows know what was copied.
func (s *Setup) desktopSteps(p plan.Plan, _ *tree, admin bool) []part {
	reg, environment := &hive{root: registry.CURRENT_USER, below: s.Host.Registry, point: s.point}, environmentOwn
	if p.Scope == plan.System {
		reg, environment = &hive{root: registry.LOCAL_MACHINE, below: s.Host.Registry, point: s.point}, environmentAll
	}
	start := s.Host.at(programs(p.Scope))
	menu := &menus{tree: s.tree(start), file: filepath.Join(start, "HXEN.lnk")}
	types := &registered{id: "types", title: text.T("Offering HXEN for disk images"), detail: text.T("\"Open with\" of .iso, .qcow2, .xva and .ova offers HXEN; what opens them now stays as it is"),
		optional: true, reg: reg, owns: ownsType, under: strings.TrimSuffix(classesKey, `\`), after: tellAssociations}
	if p.Has(plan.Window) {
		menu.target = filepath.Join(p.Prefix, desktopPath)
		types.want = fileTypes(menu.target)
	}
	entry := &registered{id: "entry", title: text.T("Adding HXEN to Windows' list of apps"), detail: text.T("there it can be repaired and removed"),
		reg: reg, want: s.entry(p), owns: func(key string) bool { return key == uninstallKey }, under: uninstallKey}
	return []part{{menu, admin}, {types, admin}, {&searchPath{reg: reg, key: environment, dir: p.Prefix}, admin}, {entry, admin}}
}

// imageTypes are the endings of files that the window opens, and what they are.
var imageTypes = []struct{ ending, name string }{
	{".iso", "Disc image"},
	{".qcow2", "QEMU disk image"},
	{".xva", "Xen virtual appliance"},
	{".ova", "Virtual appliance"},
}

// fileTypes has the desktop offer HXEN for images, beside what opens them now:
// the default of an ending is never set. https://learn.microsoft.com/windows/win32/shell/fa-file-types
func fileTypes(program string) (out []value) {
	for _, t := range imageTypes {
		id := "HXEN" + t.ending
		key := classesKey + id
		out = append(out,
			value{key, "", textData(t.name)},
			value{key + `\DefaultIcon`, "", textData(program + ",0")},
			value{key + `\shell\open`, "FriendlyAppName", textData("HXEN")},
			value{key + `\shell\open\command`, "", textData(`"` + program + `" "%1"`)},
			value{classesKey + t.ending + `\OpenWithProgids`, id, textData("")})
	}
	return out
}

// ownsType: the keys of fileTypes, whatever a journal says.
func ownsType(key string) bool {
	rest, ok := strings.CutPrefix(key, classesKey)
	if !ok {
		return false
	}
	return slices.ContainsFunc(imageTypes, func(t struct{ ending, name string }) bool {
		return rest == t.ending || rest == t.ending+`\OpenWithProgids` || rest == "HXEN"+t.ending || strings.HasPrefix(rest, "HXEN"+t.ending+`\`)
	})
}

// entry is HXEN in "Installed apps". The setup that is installed removes HXEN; one
// that did not carry what it installed is not.
func (s *Setup) entry(p plan.Plan) []value {
	if s.Payload == nil || s.Payload.self == "" {
		return nil
	}
	list, err := s.Payload.For(p.Options, p.Prefix)
	if err != nil {
		return nil // the step that copies files says why
	}
	var size int64
	for _, f := range list {
		size += f.Size
	}
	setup := `"` + filepath.Join(p.Prefix, setupPath) + `"`
	texts := []struct{ name, content string }{
		{"DisplayName", "HXEN"}, {"DisplayVersion", p.Version}, {"Publisher", "The HXEN project"},
		{"DisplayIcon", filepath.Join(p.Prefix, hxenPath) + ",0"}, {"InstallLocation", p.Prefix},
		{"URLInfoAbout", "https://github.com/hxen-project/hxen"},
		{"ModifyPath", setup}, {"UninstallString", setup + " --uninstall"}, {"QuietUninstallString", setup + " --uninstall --yes"},
	}
	var out []value
	for _, t := range texts {
		out = append(out, value{uninstallKey, t.name, textData(t.content)})
	}
	return append(out, value{uninstallKey, "NoRepair", numberData(1)}, // it is one of what "Modify" offers
		value{uninstallKey, "EstimatedSize", numberData(uint32(size >> 10))}) // KiB
}

// accelSteps make the accelerator usable.
func (s *Setup) accelSteps(p plan.Plan) []part {
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		dir = `C:\Windows\System32`
	}
	dir = s.Host.at(dir)
	f := &feature{host: s.Host, dism: filepath.Join(dir, "dism.exe"), library: filepath.Join(dir, "WinHvPlatform.dll"),
		again: value{key: runOnce, name: runOnceName}, reg: &hive{root: registry.CURRENT_USER, below: s.Host.Registry, point: s.point}}
	if sid, err := access.SID(p.Account); err == nil { // an administrator's password makes another user of this program
		f.reg.root, f.reg.below = registry.USERS, sid+`\`+s.Host.Registry
	}
	if s.Payload != nil && s.Payload.self != "" {
		f.again.data = textData(`"` + filepath.Join(p.Prefix, setupPath) + `" ` + ResumeFlag)
	}
	return []part{{f, true}}
}
