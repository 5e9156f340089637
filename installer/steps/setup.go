package steps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
	"github.com/hxen-project/hxen/platform/elevate"
	"github.com/hxen-project/hxen/platform/hostinfo"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

// Setup is one run of the setup program, whatever shows it.
type Setup struct {
	Program  string   // this setup program, run again as administrator
	Payload  *Payload // nil: only uninstalling can be planned
	Account  string   // the user who will have guests
	Home     string
	Terminal bool // a password can be asked for on this terminal
	Host     *Host

	elevate func(context.Context, elevate.Command) (*elevate.Helper, error)
	admin   func() bool
	point   func(op, name string) error // tests: called before each change
}

// New prepares a setup for the user who runs it, or who had sudo run it.
func New(program string, payload *Payload) (*Setup, error) {
	s := &Setup{Program: program, Payload: payload, Host: newHost(), elevate: elevate.Start, admin: elevate.Admin}
	uid, asked := elevate.Caller()
	if !asked || !s.admin() {
		uid = os.Getuid()
	}
	u, err := account(uid)
	if err != nil {
		return nil, fmt.Errorf("find out who you are: %w", err)
	}
	s.Account, s.Home = u.Username, u.HomeDir
	if home, err := os.UserHomeDir(); err == nil && uid == os.Getuid() {
		s.Home = home
	}
	return s, nil
}

// account looks a user up; Windows has no numbers for users.
func account(uid int) (*user.User, error) {
	if uid < 0 {
		return user.Current()
	}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil && uid == os.Getuid() {
		return user.Current() // the environment may know
	}
	return u, err
}

func newHost() *Host {
	h := &Host{Run: system{}}
	h.Manager, h.Names, _ = hostinfo.Packages(append(needed[plan.QEMU], append(needed[plan.Window], needed[plan.Example]...)...)...)
	if !h.has(h.Manager) { // winget and brew are not on every computer
		h.Manager = ""
	}
	return h
}

// needed are the distribution's parts that components need.
var needed = map[plan.Component][]hostinfo.Part{
	plan.QEMU:    {hostinfo.PartQEMU, hostinfo.PartImg, hostinfo.PartFirmware, hostinfo.PartTPM},
	plan.Window:  {hostinfo.PartOpenGL},
	plan.Example: {hostinfo.PartExample},
}

// journals names the folders of the journals that an installation with this
// scope has: what was done as administrator, and what was not.
func (s *Setup) journals(scope plan.Scope) (admin, own string) {
	if scope == plan.System {
		return s.Host.at(paths.SetupDir("", "")), ""
	}
	return s.Host.at(paths.SetupDir("", s.Account)), paths.SetupDir(s.Home, "")
}

// Installed is what stands on this computer.
type Installed struct {
	plan.Plan
	Interrupted bool // by a run that did not end; Plan is what it was to do
	There       bool
}

// Installed looks for what an earlier setup installed, for this user or, first,
// for everybody.
func (s *Setup) Installed() (Installed, error) {
	for _, scope := range []plan.Scope{plan.System, plan.User} {
		admin, own := s.journals(scope)
		dir := own
		if scope == plan.System {
			dir = admin
		}
		j, err := plan.Load(dir)
		if err != nil {
			return Installed{}, err
		}
		p, there := j.Installed()
		if i, ok := j.Interrupted(); ok {
			return Installed{Plan: i, Interrupted: true, There: there}, nil
		}
		if there {
			return Installed{Plan: p, There: true}, nil
		}
	}
	return Installed{}, nil
}

// Defaults are the options that are proposed: those of what is installed, else
// everything for everybody where an administrator can be asked for.
func (s *Setup) Defaults() plan.Options {
	if i, err := s.Installed(); err == nil && (i.There || i.Interrupted) {
		o := i.Options
		o.RemoveGuests, o.RemovePackages, o.Packages = false, false, nil
		if i.Action == plan.Install {
			return o
		}
	}
	_, managed := hostinfo.ServiceManager()
	o := plan.Options{Scope: plan.System, Account: s.Account, Service: managed,
		Components: []plan.Component{plan.Command, plan.Window, plan.QEMU}}
	if !s.canAdmin() {
		o.Scope = plan.User
	}
	o.Service = o.Service && Serves(o.Scope)
	o.Prefix = s.Prefix(o.Scope)
	return o
}

func (s *Setup) canAdmin() bool { return s.admin() || s.canAsk() }

// accountName is what account names may be: useradd(8), and Windows' DOMAIN\name.
var accountName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@\\ -]*\$?$`)

// validate says why options cannot be.
func (s *Setup) validate(o plan.Options) error {
	switch {
	case o.Scope != plan.System && o.Scope != plan.User:
		return fmt.Errorf("the scope %q is neither %q nor %q", o.Scope, plan.System, plan.User)
	case !accountName.MatchString(o.Account) || strings.Contains(o.Account, ".."):
		return fmt.Errorf("%q is no name of an account", o.Account)
	case o.Service && !Serves(o.Scope):
		return errors.New(text.T("this system has services for everybody only; leave the service out, or install for everybody"))
	case !o.Has(plan.Command):
		return errors.New(text.T("the command line is always installed: guests are run by it"))
	}
	for _, c := range o.Components {
		if !slices.Contains(plan.Components, c) {
			return fmt.Errorf("there is no component %q", c)
		}
	}
	_, err := newTree(s.bases(o.Scope)...).base(filepath.Join(o.Prefix, "x"))
	if err == nil && (!filepath.IsAbs(o.Prefix) || filepath.Clean(o.Prefix) != o.Prefix) {
		err = fmt.Errorf("%q is no clean absolute path", o.Prefix)
	}
	return err
}

// Plan makes the plan for an action. Installing finds out which packages are
// missing; a version older than the installed one is refused.
func (s *Setup) Plan(ctx context.Context, action plan.Action, o plan.Options) (plan.Plan, error) {
	if o.Account == "" {
		o.Account = s.Account
	}
	if o.Prefix == "" {
		o.Prefix = s.Prefix(o.Scope)
	}
	if !o.Has(plan.Command) {
		o.Components = append([]plan.Component{plan.Command}, o.Components...)
	}
	o.Service = o.Service && Serves(o.Scope)
	if err := s.validate(o); err != nil {
		return plan.Plan{}, err
	}
	p := plan.Plan{Format: plan.Format, Action: action, Options: o}
	i, err := s.Installed()
	if err != nil {
		return plan.Plan{}, err
	}
	if action == plan.Uninstall {
		if !i.There && !i.Interrupted {
			return plan.Plan{}, errors.New(text.T("HXEN was not installed by this setup, so there is nothing to remove"))
		}
		p.Version, p.Stamp, p.Payload, p.Packages = i.Version, i.Stamp, i.Plan.Payload, nil
	} else {
		if s.Payload == nil {
			return plan.Plan{}, errors.New(text.T("this setup program carries nothing to install; download it again"))
		}
		p.Version, p.Stamp, p.Payload = s.Payload.Version, s.Payload.Stamp, s.Payload.Sum
		if i.There && older(p, i.Plan) {
			return plan.Plan{}, Refused(text.T("HXEN %s is installed, which is newer than the %s that this setup carries; uninstall it first if you really want the older one", i.Version, p.Version))
		}
		if i.There && i.Scope != o.Scope {
			return plan.Plan{}, Refused(text.T("HXEN is installed in %s already; uninstall it there first", i.Prefix))
		}
		if o.Scope == plan.System {
			if there, err := newTree(s.Host.at("/usr")).exists(s.Host.at("/usr/lib/hxen/hxen")); err == nil && there {
				return plan.Plan{}, Refused(text.T("HXEN is installed as a package of your system; use the package manager, or remove that package first"))
			}
		}
		p.Packages = s.missingPackages(ctx, o)
	}
	p.Steps = stepIDs(s.steps(p))
	return p, nil
}

// Refused is an error that says why something is not done at all.
type Refused string

func (r Refused) Error() string { return string(r) }

// missingPackages lists the packages that the components need and that are not
// installed, or are only by a run that was interrupted: it may be taken back.
func (s *Setup) missingPackages(ctx context.Context, o plan.Options) []string {
	var parts []hostinfo.Part
	for _, c := range plan.Components {
		if o.Has(c) && (c == plan.QEMU || o.Has(plan.QEMU)) {
			parts = append(parts, needed[c]...)
		}
	}
	_, names, ok := s.partNames(parts)
	if !ok || len(names) == 0 {
		return nil
	}
	missing, err := (&packages{host: s.Host, names: names}).missing(ctx)
	if err != nil {
		return nil
	}
	dir, _ := s.journals(o.Scope)
	j, err := plan.Load(dir)
	if err != nil {
		return missing
	}
	var pending []string
	for _, a := range j.Pending() {
		if a.Kind == kindPackage {
			pending = append(pending, a.Name)
		}
	}
	return slices.DeleteFunc(names, func(n string) bool { return !slices.Contains(missing, n) && !slices.Contains(pending, n) })
}

func (s *Setup) partNames(parts []hostinfo.Part) (string, []string, bool) {
	_, names, ok := hostinfo.Packages(parts...)
	names = slices.DeleteFunc(names, func(n string) bool { return !slices.Contains(s.Host.Names, n) })
	return s.Host.Manager, names, ok && managers[s.Host.Manager].install != nil
}

// older compares versions: as numbers where both are releases, else by when they
// were made.
func older(a, b plan.Plan) bool {
	x, okX := release(a.Version)
	y, okY := release(b.Version)
	if okX && okY && !slices.Equal(x, y) {
		return slices.Compare(x, y) < 0
	}
	return a.Stamp < b.Stamp
}

var releaseForm = regexp.MustCompile(`^v?(\d+)\.(\d+)(?:\.(\d+))?`)

func release(version string) (numbers []int, ok bool) {
	m := releaseForm.FindStringSubmatch(version)
	if m == nil {
		return nil, false
	}
	for _, part := range m[1:] {
		n, _ := strconv.Atoi(part) // an empty third number is 0
		numbers = append(numbers, n)
	}
	return numbers, true
}

func (s *Setup) tree(bases ...string) *tree {
	t := newTree(bases...)
	t.point = s.point
	return t
}

// part is a step and whose rights it needs.
type part struct {
	plan.Step
	admin bool
}

// steps are the plan's, in order. Every kind that may have made something is
// among them when uninstalling.
func (s *Setup) steps(p plan.Plan) []part {
	t := s.tree(s.bases(p.Scope)...)
	all := p.Scope == plan.System
	removing := p.Action == plan.Uninstall
	out := []part{{&files{payload: s.Payload, tree: t, prefix: p.Prefix, chosen: p.Options, free: freeSpace}, all}}
	out = append(out, s.desktopSteps(p, t, all)...)
	if removing || len(p.Packages) > 0 {
		out = append(out, part{&packages{host: s.Host, names: p.Packages, take: p.RemovePackages}, true})
	}
	if removing || p.KVM {
		out = append(out, s.accelSteps(p)...)
	}
	if removing || p.Service {
		out = append(out, part{&service{host: s.Host, program: s.hxen(p), scope: p.Scope, account: p.Account}, all})
	}
	return out
}

func stepIDs(parts []part) (ids []string) {
	for _, p := range parts {
		ids = append(ids, p.ID())
	}
	return ids
}

// only returns the steps that need, or do not need, an administrator.
func only(parts []part, admin bool) (out []plan.Step) {
	for _, p := range parts {
		if p.admin == admin {
			out = append(out, p.Step)
		}
	}
	return out
}

// Check says for each step what it has to do.
func (s *Setup) Check(ctx context.Context, p plan.Plan) ([]plan.Found, error) {
	adminDir, ownDir := s.journals(p.Scope)
	var out []plan.Found
	for _, part := range s.steps(p) {
		dir := ownDir
		if part.admin {
			dir = adminDir
		}
		j, err := plan.Load(dir)
		if err != nil {
			return nil, err
		}
		found, err := plan.Check(ctx, j, p, []plan.Step{part.Step})
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// NeedsAdmin reports whether the plan asks for an administrator's password.
func (s *Setup) NeedsAdmin(p plan.Plan) bool {
	return !s.admin() && len(only(s.steps(p), true)) > 0 && (p.Action == plan.Install || s.adminJournal(p))
}

func (s *Setup) adminJournal(p plan.Plan) bool {
	dir, _ := s.journals(p.Scope)
	_, err := os.Stat(plan.Path(dir))
	return err == nil
}

// Run does what the plan says.
func (s *Setup) Run(ctx context.Context, p plan.Plan, report func(plan.Event)) plan.Result {
	if p.Action == plan.Uninstall {
		s.stopService(ctx)
	}
	r := s.run(ctx, p, report)
	// One that was started on demand starts again when it is needed, and takes over the
	// guests that run. The step that registers a service has ended it already: what runs
	// by now is the registered one, which nothing would start again before the next boot.
	if r.OK && p.Action == plan.Install && !p.Service {
		s.stopService(ctx)
	}
	if r.OK && p.RemoveGuests && p.Action == plan.Uninstall {
		if err := removeGuests(); err != nil {
			r.Notes = append(r.Notes, err.Error())
		}
	}
	return r
}

func (s *Setup) run(ctx context.Context, p plan.Plan, report func(plan.Event)) plan.Result {
	parts := s.steps(p)
	if p.Scope == plan.System {
		return s.runAdmin(ctx, p, only(parts, true), report)
	}
	_, dir := s.journals(p.Scope)
	admins, own := only(parts, true), only(parts, false)
	if p.Action == plan.Uninstall {
		if s.adminJournal(p) {
			if r := s.runAdmin(ctx, p, admins, withoutEnd(report)); !r.OK {
				return r
			}
		}
		return s.locked(ctx, dir, p, own, report)
	}
	if len(admins) > 0 {
		i := slices.IndexFunc(own, func(st plan.Step) bool { return st.ID() == "service" })
		if i < 0 {
			i = len(own)
		}
		b := &byAdmin{setup: s, plan: p, steps: admins, report: report}
		r := s.locked(ctx, dir, p, slices.Insert(own, i, plan.Step(b)), report)
		r.Rights = b.rights
		return r
	}
	return s.locked(ctx, dir, p, own, report)
}

func withoutEnd(report func(plan.Event)) func(plan.Event) {
	return func(e plan.Event) {
		if e.End == nil && report != nil {
			report(e)
		}
	}
}

// locked runs steps over the journal in dir, which nobody else may use meanwhile.
func (s *Setup) locked(ctx context.Context, dir string, p plan.Plan, steps []plan.Step, report func(plan.Event)) plan.Result {
	fail := func(err error) plan.Result {
		r := plan.Result{Action: p.Action, Version: p.Version, Hash: p.Hash(), Error: err.Error(), Undone: true}
		if report != nil {
			report(plan.Event{End: &r})
		}
		return r
	}
	made, err := s.journalDir(dir)
	if err != nil {
		return fail(fmt.Errorf("%s: %w", text.T("the setup cannot keep its journal"), err))
	}
	lockFile := filepath.Join(dir, "lock")
	lock, err := proc.TryLock(lockFile)
	if errors.Is(err, proc.ErrLocked) {
		return fail(errors.New(text.T("another setup of HXEN is running; wait until it has ended")))
	}
	if err != nil {
		return fail(fmt.Errorf("%s: %w", text.T("the setup cannot keep its journal"), err))
	}
	defer lock.Close()
	// The folders made for the journal go when it does.
	folders := filepath.Join(dir, "folders")
	if len(made) > 0 {
		err = os.WriteFile(folders, []byte(strings.Join(made, "\n")), 0o644)
	}
	var j *plan.Journal
	if err == nil {
		j, err = plan.Load(dir)
	}
	if j != nil && s.point != nil {
		j.Watch(func([]byte) error { return s.point("journal", dir) })
	}
	var r plan.Result
	if err != nil {
		r = fail(err)
	} else {
		r = plan.Run(ctx, j, p, steps, s.before(j), report)
	}
	if _, err := os.Stat(plan.Path(dir)); errors.Is(err, os.ErrNotExist) {
		if b, err := os.ReadFile(folders); err == nil {
			made = strings.Split(string(b), "\n")
		}
		os.Remove(folders)
		err := os.Remove(lockFile)
		lock.Close()
		if err != nil {
			os.Remove(lockFile) // Windows removes no file that is open
		}
		for _, d := range append([]string{dir}, made...) {
			os.Remove(d) // only what is empty goes
		}
	}
	return r
}

// before lists the steps of the run that made what the journal tells of.
func (s *Setup) before(j *plan.Journal) (out []plan.Step) {
	p, ok := j.Interrupted()
	if !ok {
		p, ok = j.Installed()
	}
	if !ok || s.validate(p.Options) != nil {
		return nil
	}
	p.Action = plan.Uninstall // which has every step
	for _, part := range s.steps(p) {
		out = append(out, part.Step)
	}
	return out
}

// mkdirs is os.MkdirAll that tells which folders it made, innermost first.
func mkdirs(dir string) (made []string, err error) {
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Lstat(d); !errors.Is(err, os.ErrNotExist) {
			break
		}
		made = append(made, d)
	}
	return made, os.MkdirAll(dir, 0o755)
}

// runAdmin runs steps here or, where this process may not, in a helper.
func (s *Setup) runAdmin(ctx context.Context, p plan.Plan, steps []plan.Step, report func(plan.Event)) plan.Result {
	if !s.admin() {
		return s.ask(ctx, p, report)
	}
	dir, _ := s.journals(p.Scope)
	return s.locked(ctx, dir, p, steps, report)
}

// byAdmin is the step of a plan for one user that has the helper do the steps
// which need an administrator. The helper keeps a journal of its own.
type byAdmin struct {
	setup  *Setup
	plan   plan.Plan
	steps  []plan.Step
	report func(plan.Event)
	rights bool // it failed for want of an administrator
}

func (*byAdmin) ID() string    { return "administrator" }
func (*byAdmin) Title() string { return text.T("Asking for an administrator's password") }

// Check implements plan.Step.
func (b *byAdmin) Check(ctx context.Context, _ *plan.Session) (plan.Status, error) {
	dir, _ := b.setup.journals(b.plan.Scope)
	j, err := plan.Load(dir)
	if err != nil {
		return plan.Status{}, err
	}
	found, err := plan.Check(ctx, j, b.plan, b.steps)
	done := !slices.ContainsFunc(found, func(f plan.Found) bool { return !f.Done })
	return plan.Status{Done: done}, err
}

// Apply implements plan.Step.
func (b *byAdmin) Apply(ctx context.Context, s *plan.Session) error {
	r := b.setup.runAdmin(ctx, b.plan, b.steps, withoutEnd(b.report))
	for _, n := range r.Notes {
		s.Note(n)
	}
	if !r.OK {
		b.rights = r.Rights
		return errors.New(r.Error)
	}
	return nil
}

// Undo has nothing to do: the helper takes its own part back.
func (b *byAdmin) Undo(context.Context, *plan.Session, plan.Act) error { return nil }

// hxen is the installed command line.
func (s *Setup) hxen(p plan.Plan) string {
	return filepath.Join(p.Prefix, filepath.FromSlash(hxenPath))
}
