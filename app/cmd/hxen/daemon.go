package main

import (
	"context"
	"fmt"
	"os"

	"github.com/hxen-project/hxen/app/cli"
	"github.com/hxen-project/hxen/app/service"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/hostinfo"
	"github.com/hxen-project/hxen/platform/hostsvc"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

// serve is "hxen service". managed is who has started it: "" for nobody, or one of
// cli's words.
func serve(ctx context.Context, store paths.Store, managed string, ready func()) error {
	worker, err := paths.Program("hxen-worker")
	if err != nil {
		return err
	}
	netd, err := paths.Program("hxen-netd")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(store.Root, 0o700); err != nil {
		return fmt.Errorf("make the folder for your guests: %w; set %s to another folder", err, paths.HomeVar)
	}
	log, out, err := logTo(store, managed != "")
	if err != nil {
		return err
	}
	defer out.Close()
	opt := service.Options{
		Store: store, Version: version, Worker: worker, Netd: netd, Host: host(store), Log: log, Ready: ready,
	}
	run := hostsvc.Run
	if managed != "" {
		run = hostsvc.RunManaged
		manage(&opt, managed == cli.ManagedUser)
	}
	return run(ctx, serviceName, func(ctx context.Context) error {
		err := service.Run(ctx, opt)
		if err != nil {
			log.Error("the service ended", "err", err)
		}
		return err
	})
}

// manage makes guests start and stop with the host.
func manage(opt *service.Options, perUser bool) {
	tell := func(err error) {
		if err != nil {
			opt.Log.Warn("tell the service manager", "err", err)
		}
	}
	ready := opt.Ready
	opt.Ready = func() {
		tell(hostsvc.Ready())
		ready()
	}
	var err error
	if opt.Boot, err = proc.Boot(); err != nil {
		opt.Log.Error("guests do not start with the computer", "err", err)
	}
	opt.Stops = func() bool { return hostStops(perUser) }
	opt.Busy = func(with string) { tell(hostsvc.Busy(with)) }
	opt.Watch = func(ctx context.Context, happened func(hostsvc.HostEvent)) (*hostsvc.Inhibitor, error) {
		return hostsvc.WatchHost(ctx, "Virtual machines are being stopped", happened)
	}
}

// host tells the service about this computer.
func host(store paths.Store) service.Host {
	cpu := hostinfo.Processor()
	return service.Host{
		CPUs: cpu.Count, CPUModel: cpu.Model,
		Memory:      hostinfo.Memory,
		MemoryShort: hostinfo.MemoryShort,
		DiskFree: func(path string) (uint64, error) {
			free, _, err := hostinfo.DiskFree(path)
			return free, err
		},
		QEMU: hostQEMU,
		QEMUVersion: func(ctx context.Context) string {
			q, _ := hostinfo.FindQEMU(ctx) // hostQEMU says what is missing
			return q.Version
		},
		Accel: func(ctx context.Context) []hv.AccelInfo {
			var out []hv.AccelInfo
			for _, r := range hostinfo.Accelerators(ctx, store, false) {
				out = append(out, hv.AccelInfo{Name: r.Name, Usable: r.Usable, Reason: r.Reason, Cure: r.Cure,
					Native: hv.NativeInfo{Usable: r.Native.Usable, Reason: r.Native.Reason, Cure: r.Native.Cure}})
			}
			return out
		},
	}
}

// hostQEMU finds the device model and its firmware, or says what to install.
func hostQEMU(ctx context.Context) hv.QEMUInfo {
	q, err := hostinfo.FindQEMU(ctx)
	if err != nil {
		return hv.QEMUInfo{Storage: hostinfo.LocateStorage(""), Missing: err.Error()}
	}
	info := hv.QEMUInfo{Path: q.Path, Img: q.Img, Storage: q.Storage}
	var missing []hostinfo.Part
	if q.Img == "" {
		missing = append(missing, hostinfo.PartImg)
	}
	if fw, ok := hostinfo.FindFirmware(q.Path); ok {
		info.OVMFCode, info.OVMFVars = fw.Code, fw.Vars
	} else {
		missing = append(missing, hostinfo.PartFirmware)
	}
	if len(missing) > 0 {
		info.Missing = fmt.Sprintf("parts of QEMU are not installed (%v); %s", missing, hostinfo.InstallCommand(missing...))
	}
	return info
}
