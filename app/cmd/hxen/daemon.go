package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/term"

	"github.com/hxen-project/hxen/app/service"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/hostinfo"
	"github.com/hxen-project/hxen/platform/hostsvc"
	"github.com/hxen-project/hxen/platform/paths"
)

// serve is "hxen service".
func serve(ctx context.Context, store paths.Store, ready func()) error {
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
	out, err := logTo(store)
	if err != nil {
		return err
	}
	defer out.Close()
	log := slog.New(slog.NewTextHandler(out, nil))
	return hostsvc.Run(ctx, "hxen", func(ctx context.Context) error {
		err := service.Run(ctx, service.Options{
			Store: store, Version: version, Worker: worker, Netd: netd,
			Host: host(store), Log: log, Ready: ready,
		})
		if err != nil {
			log.Error("the service ended", "err", err)
		}
		return err
	})
}

// maxLog is when service.log is put aside for a new one.
const maxLog = 4 << 20

// logTo picks where the service logs: the terminal that it was started in, else
// the store, with one older file.
func logTo(store paths.Store) (*os.File, error) {
	if term.IsTerminal(int(os.Stderr.Fd())) {
		return os.Stderr, nil
	}
	if st, err := os.Stat(store.Log()); err == nil && st.Size() > maxLog {
		if err := os.Rename(store.Log(), store.Log()+".1"); err != nil {
			return nil, fmt.Errorf("rotate the service's log: %w", err)
		}
	}
	f, err := os.OpenFile(store.Log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the service's log: %w", err)
	}
	return f, nil
}

// host tells the service about this computer.
func host(store paths.Store) service.Host {
	cpu := hostinfo.Processor()
	return service.Host{
		CPUs: cpu.Count, CPUModel: cpu.Model,
		Memory: hostinfo.Memory,
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
