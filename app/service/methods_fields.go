package service

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/hv"
)

// platformPrefix begins the keys in Spec.Other that keep what clients put into
// VM.platform and that means nothing here.
const platformPrefix = "platform:"

// configure changes the settings of a guest that is claimed for op meanwhile.
func (s *Service) configure(c *rpc.Call, ref api.Ref, op hv.Operation, change func(*hv.Spec) error) error {
	g, end, err := s.begin(ref, op, c.Task.Ref())
	if err != nil {
		return err
	}
	defer end()
	return s.update(g, change)
}

// annotate changes what no run depends on, in any state.
func (s *Service) annotate(ref api.Ref, change func(*hv.Spec) error) error {
	s.mu.Lock()
	g, err := s.lookup(ref)
	if err == nil && !g.sound() {
		err = g.can(hv.OpRename)
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.update(g, change)
}

// registerFields adds the setters of a guest's fields.
func (s *Service) registerFields(srv *rpc.Server) {
	srv.RegisterSetter(api.ClassVM, "name_label", func(c *rpc.Call, ref api.Ref, name string) error {
		g, end, err := s.begin(ref, hv.OpRename, c.Task.Ref())
		if err != nil {
			return err
		}
		defer end()
		return s.rename(g, name)
	})
	srv.RegisterSetter(api.ClassVM, "name_description", func(_ *rpc.Call, ref api.Ref, about string) error {
		return s.annotate(ref, func(spec *hv.Spec) error { spec.Description = about; return nil })
	})
	srv.RegisterSetter(api.ClassVM, "other_config", func(_ *rpc.Call, ref api.Ref, m map[string]string) error {
		return s.annotate(ref, func(spec *hv.Spec) error { return setOther(spec, m) })
	})
	srv.RegisterSetter(api.ClassVM, "domain_type", func(c *rpc.Call, ref api.Ref, to string) error {
		_, err := s.retype(c, ref, to)
		return err
	})
	srv.RegisterSetter(api.ClassVM, "platform", func(c *rpc.Call, ref api.Ref, m map[string]string) error {
		return s.configure(c, ref, hv.OpConfigure, func(spec *hv.Spec) error { return setPlatform(spec, m) })
	})
	srv.RegisterSetter(api.ClassVM, "HVM_boot_params", func(c *rpc.Call, ref api.Ref, m map[string]string) error {
		return s.configure(c, ref, hv.OpConfigure, func(spec *hv.Spec) error { return setBoot(spec, m) })
	})
	s.registerMemory(srv)
	s.registerText(srv)
	s.registerStart(srv)
}

// registerMemory adds the ways to say how much memory and how many processors.
// There is no ballooning on demand, so the minimum of a range is only checked.
func (s *Service) registerMemory(srv *rpc.Server) {
	memory := func(c *rpc.Call, ref api.Ref, bytes int64) error {
		return s.configure(c, ref, hv.OpConfigure, func(spec *hv.Spec) error {
			spec.Memory = uint64(max(bytes, 0))
			return nil
		})
	}
	srv.Register("VM.set_memory", memory)
	srv.Register("VM.set_memory_limits", func(c *rpc.Call, ref api.Ref, staticMin, staticMax, dynamicMin, dynamicMax int64) error {
		if staticMin > dynamicMin || dynamicMin > dynamicMax || dynamicMax > staticMax {
			return refuse("memory", "the limits must be in order: static minimum, dynamic minimum, dynamic maximum, static maximum", "")
		}
		return memory(c, ref, dynamicMax)
	})
	srv.RegisterSetter(api.ClassVM, "memory_static_max", memory)
	srv.RegisterSetter(api.ClassVM, "memory_dynamic_max", memory)
	vcpus := func(c *rpc.Call, ref api.Ref, n int64) error {
		return s.configure(c, ref, hv.OpConfigure, func(spec *hv.Spec) error {
			spec.VCPUs = int(max(0, min(n, hv.MaxVCPUs+1)))
			return nil
		})
	}
	srv.RegisterSetter(api.ClassVM, "VCPUs_max", vcpus)
	srv.RegisterSetter(api.ClassVM, "VCPUs_at_startup", vcpus)
}

// registerText adds the fields that are one string of the settings.
func (s *Service) registerText(srv *rpc.Server) {
	for field, of := range map[string]func(*hv.Spec) *string{
		"PV_kernel":              func(p *hv.Spec) *string { return &p.Boot.Kernel },
		"PV_ramdisk":             func(p *hv.Spec) *string { return &p.Boot.Initrd },
		"PV_args":                func(p *hv.Spec) *string { return &p.Boot.Cmdline },
		"PV_bootloader_args":     func(p *hv.Spec) *string { return &p.Boot.Entry }, // of the boot loader's menu on the disk
		"actions_after_shutdown": func(p *hv.Spec) *string { return &p.OnPoweroff },
		"actions_after_reboot":   func(p *hv.Spec) *string { return &p.OnReboot },
		"actions_after_crash":    func(p *hv.Spec) *string { return &p.OnCrash },
	} {
		srv.RegisterSetter(api.ClassVM, field, func(c *rpc.Call, ref api.Ref, value string) error {
			return s.configure(c, ref, hv.OpConfigure, func(spec *hv.Spec) error {
				*of(spec) = strings.NewReplacer("coredump_and_", "coredump-", "rename_", "rename-").Replace(value) // XenAPI's on_crash_behaviour
				return nil
			})
		})
	}
}

// setOther replaces the client's keys. auto_poweron is XenAPI's word for
// starting with the host.
func setOther(spec *hv.Spec, m map[string]string) error {
	if v, ok := m["auto_poweron"]; ok {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return api.NewError(api.ErrValueNotSupported, "other_config:auto_poweron", v, "it must be true or false")
		}
		spec.Autostart = on
	}
	for key, field := range map[string]*string{api.KeyWaitFor: &spec.WaitFor, api.KeyOnHostStop: &spec.OnHostStop, api.KeyOnWatchdog: &spec.OnWatchdog} {
		if v, ok := m[key]; ok {
			*field = v
		}
	}
	kept := clientKeys(m)
	for k, v := range spec.Other {
		if strings.HasPrefix(k, platformPrefix) {
			kept[k] = v
		}
	}
	spec.Other = kept
	return nil
}

func setPlatform(spec *hv.Spec, m map[string]string) error {
	other := map[string]string{}
	for k, v := range spec.Other {
		if !strings.HasPrefix(k, platformPrefix) {
			other[k] = v
		}
	}
	for k, v := range m {
		switch k {
		case "vga":
			spec.Display.Adapter = v
		case "audio":
			on, err := strconv.ParseBool(v)
			if err != nil {
				return api.NewError(api.ErrValueNotSupported, "platform:audio", v, "it must be true or false")
			}
			spec.Display.Audio = on
		case "device-model": // pinned by the first start
		default:
			other[platformPrefix+k] = v
		}
	}
	spec.Other = other
	return nil
}

func setBoot(spec *hv.Spec, m map[string]string) error {
	for k, v := range m {
		switch k {
		case api.KeyOrder:
			spec.Boot.Order = v
		case api.KeyFirmware:
			spec.Firmware = hv.Firmware(v)
		default:
			return api.NewError(api.ErrValueNotSupported, "HVM_boot_params", k, fmt.Sprintf("the keys are %s and %s", api.KeyOrder, api.KeyFirmware))
		}
	}
	return nil
}
