package steps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
)

// kvm is the step that lets a user open /dev/kvm: through the group that the
// device has, or, where the distribution gave it none, a udev rule that does.
type kvm struct {
	host    *Host
	tree    *tree
	account string
	group   func() (string, error) // of /dev/kvm; nil: look
}

// Kinds of acts.
const (
	kindMember = "member" // Name is in the group Args[0]
	kindRule   = "rule"   // a udev rule
	kindGroup  = "group"  // a group that was made
)

// kvmGroup is what distributions call the group.
const kvmGroup = "kvm"

// KVMRule is the udev rule, as udev(7) wants it.
const (
	ruleFile = "/etc/udev/rules.d/65-hxen-kvm.rules"
	ruleText = "# Written by HXEN's setup: lets the group kvm run virtual machines.\nKERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0660\"\n"
)

func (*kvm) ID() string    { return "kvm" }
func (*kvm) Title() string { return text.T("Letting you use KVM") }

// members reads group(5): the accounts in a group; ok is false if there is none.
func (k *kvm) members(group string) (accounts []string, ok bool, err error) {
	b, err := os.ReadFile(k.host.at("/etc/group"))
	if err != nil {
		return nil, false, fmt.Errorf("read the groups: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) == 4 && f[0] == group {
			return strings.FieldsFunc(f[3], func(r rune) bool { return r == ',' }), true, nil
		}
	}
	return nil, false, nil
}

// want is the group that the account should be in, and whether a rule is needed
// that gives it the device.
func (k *kvm) want() (group string, rule bool, err error) {
	find := k.group
	if find == nil {
		find = groupOfKVM
	}
	group, err = find()
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	if group == "root" {
		return kvmGroup, true, nil
	}
	return group, false, nil
}

// Check implements plan.Step.
func (k *kvm) Check(context.Context, *plan.Session) (plan.Status, error) {
	group, rule, err := k.want()
	if err != nil || group == "" {
		return plan.Status{Done: err == nil, Detail: text.T("this computer has no KVM")}, err
	}
	members, _, err := k.members(group)
	if err != nil {
		return plan.Status{}, err
	}
	if slices.Contains(members, k.account) && !rule {
		return plan.Status{Done: true, Detail: text.T("%s may use KVM", k.account)}, nil
	}
	if rule {
		return plan.Status{Detail: text.T("%s joins the group %s, and a udev rule gives that group /dev/kvm", k.account, group)}, nil
	}
	return plan.Status{Detail: text.T("%s joins the group %s, which may use /dev/kvm", k.account, group)}, nil
}

// Apply implements plan.Step.
func (k *kvm) Apply(ctx context.Context, s *plan.Session) error {
	group, rule, err := k.want()
	if err != nil {
		return err
	}
	members, exists, err := k.members(group)
	if err != nil {
		return err
	}
	var acts []plan.Act
	if !exists {
		acts = append(acts, plan.Act{Kind: kindGroup, Name: group})
	}
	if rule {
		acts = append(acts, plan.Act{Kind: kindRule, Name: ruleFile})
	}
	isMember := slices.Contains(members, k.account)
	if !isMember {
		acts = append(acts, plan.Act{Kind: kindMember, Name: k.account, Args: []string{group}})
	}
	noted := func(a plan.Act) bool {
		return slices.ContainsFunc(s.Pending(), func(p plan.Act) bool { return p.Key() == (plan.Act{Step: k.ID(), Kind: a.Kind, Name: a.Name}).Key() })
	}
	if err := s.Intend(slices.DeleteFunc(acts, noted)...); err != nil {
		return err
	}
	if !exists {
		if err := k.run(ctx, s, "groupadd", "--system", group); err != nil {
			return err
		}
	}
	if rule {
		if err := k.writeRule(ctx, s); err != nil {
			return err
		}
	}
	if !isMember {
		if err := k.join(ctx, s, group); err != nil {
			return err
		}
		s.Note(text.T("Log out and in again: from then on your guests use KVM."))
	}
	return nil
}

func (k *kvm) join(ctx context.Context, s *plan.Session, group string) error {
	if k.host.has("usermod") {
		return k.run(ctx, s, "usermod", "-aG", group, k.account)
	}
	return k.run(ctx, s, "addgroup", k.account, group) // BusyBox
}

func (k *kvm) writeRule(ctx context.Context, s *plan.Session) error {
	file := k.host.at(ruleFile)
	if sum, err := k.tree.sum(file); err != nil || sum != "" {
		return errors.Join(err, k.reload(ctx, s)) // ours from an interrupted run, or somebody's own
	}
	if err := k.tree.write(stage(file), 0o644, writeText(ruleText)); err != nil {
		return err
	}
	if err := k.tree.rename(stage(file), file); err != nil {
		return err
	}
	return k.reload(ctx, s)
}

// reload has udev read its rules again; without udev there is nobody to.
func (k *kvm) reload(ctx context.Context, s *plan.Session) error {
	if !k.host.has("udevadm") {
		return nil
	}
	if err := k.run(ctx, s, "udevadm", "control", "--reload"); err != nil {
		return err
	}
	return k.run(ctx, s, "udevadm", "trigger", "--name-match=kvm")
}

func (k *kvm) run(ctx context.Context, s *plan.Session, program string, args ...string) error {
	s.Log("%s %s", program, strings.Join(args, " "))
	_, err := k.host.Run.Run(ctx, nil, program, args...)
	return err
}

// Undo implements plan.Step.
func (k *kvm) Undo(ctx context.Context, s *plan.Session, a plan.Act) error {
	switch a.Kind {
	case kindMember:
		if len(a.Args) != 1 {
			return nil
		}
		members, _, err := k.members(a.Args[0])
		if err != nil || !slices.Contains(members, a.Name) {
			return err
		}
		if k.host.has("gpasswd") {
			return k.run(ctx, s, "gpasswd", "-d", a.Name, a.Args[0])
		}
		return k.run(ctx, s, "delgroup", a.Name, a.Args[0])
	case kindRule:
		file := k.host.at(ruleFile)
		if err := k.tree.remove(stage(file)); err != nil {
			return err
		}
		sum, err := k.tree.sum(file)
		if err != nil || sum != sumOf(ruleText) {
			return err
		}
		if err := k.tree.remove(file); err != nil {
			return err
		}
		return k.reload(ctx, s)
	case kindGroup:
		if members, exists, err := k.members(a.Name); err != nil || !exists || len(members) > 0 {
			return err
		}
		return k.run(ctx, s, "groupdel", a.Name)
	}
	return nil
}

// groupOfKVM names the group that /dev/kvm belongs to.
func groupOfKVM() (string, error) {
	st, err := os.Stat("/dev/kvm")
	if err != nil {
		return "", err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("/dev/kvm has no group")
	}
	g, err := user.LookupGroupId(strconv.FormatUint(uint64(sys.Gid), 10))
	if err != nil {
		return "", fmt.Errorf("the group of /dev/kvm: %w", err)
	}
	return g.Name, nil
}
