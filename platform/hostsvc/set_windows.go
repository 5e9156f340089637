package hostsvc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kardianos/service"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc/mgr"
)

// underWine: ntdll says so there.
func underWine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}

var errPerUser = errors.New("Windows has no services of one user: install it for the computer (as administrator), or let the window start it")

func registered(name string) (service.Service, error) {
	return service.New(newProgram(context.Background(), nil), &service.Config{Name: name})
}

// Set registers the service as d says, whatever was registered before. It starts
// nothing.
func Set(_ context.Context, _ Runner, d Desired) error {
	if err := d.check(); err != nil {
		return err
	}
	if d.PerUser {
		return errPerUser
	}
	if err := readyStore(d); err != nil {
		return err
	}
	c := scmConfig(d, underWine())
	s, err := service.New(newProgram(context.Background(), nil), c)
	if err != nil {
		return err
	}
	m, err := mgr.Connect()
	if err != nil {
		return fmt.Errorf("open the service manager: %w", err)
	}
	defer m.Disconnect()
	h, err := m.OpenService(d.Name)
	if errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
		if err := s.Install(); err != nil {
			return fmt.Errorf("register the service: %w", err)
		}
		h, err = m.OpenService(d.Name)
	}
	if err != nil {
		return fmt.Errorf("open the service: %w", err)
	}
	defer h.Close()
	if err := update(h, d, c); err != nil {
		return err
	}
	if err := setPreshutdown(h.Handle, d.StopTime); err != nil && !underWine() {
		return fmt.Errorf("set the time that the service has to stop: %w", err)
	}
	return nil
}

// update changes what is registered already.
func update(h *mgr.Service, d Desired, c *service.Config) error {
	if underWine() { // wine 8 knows the command line, and no more
		line, err := windows.UTF16PtrFromString(commandLine(d))
		if err == nil {
			err = windows.ChangeServiceConfig(h.Handle, windows.SERVICE_NO_CHANGE, mgr.StartAutomatic, windows.SERVICE_NO_CHANGE, line, nil, nil, nil, nil, nil, nil)
		}
		if err != nil {
			return fmt.Errorf("change the registration: %w", err)
		}
		return nil
	}
	now, err := h.Config()
	if err != nil {
		return fmt.Errorf("read the registration: %w", err)
	}
	now.BinaryPathName = commandLine(d)
	now.DisplayName, now.Description, now.StartType = c.DisplayName, c.Description, mgr.StartAutomatic
	now.DelayedAutoStart = true
	if c.UserName != "" {
		now.ServiceStartName = c.UserName
	}
	if err := h.UpdateConfig(now); err != nil {
		return fmt.Errorf("change the registration: %w", err)
	}
	return nil
}

// commandLine is what the manager runs.
func commandLine(d Desired) string {
	line := windows.EscapeArg(d.Program)
	for _, a := range d.Args {
		line += " " + windows.EscapeArg(a)
	}
	return line
}

// Remove stops the service and takes its registration away. Its guests go on.
func Remove(_ context.Context, _ Runner, name string, perUser bool) error {
	if perUser {
		return nil
	}
	s, err := registered(name)
	if err != nil {
		return err
	}
	st, err := s.Status()
	if errors.Is(err, service.ErrNotInstalled) {
		return nil
	}
	if st == service.StatusRunning {
		if err := s.Stop(); err != nil {
			return fmt.Errorf("stop the service: %w", err)
		}
	}
	return s.Uninstall()
}

// Query tells what is registered.
func Query(_ context.Context, _ Runner, name string, perUser bool) (State, error) {
	st := State{Manager: "windows", PerUser: perUser}
	if perUser {
		return st, nil
	}
	s, err := registered(name)
	if err != nil {
		return st, err
	}
	status, err := s.Status()
	if errors.Is(err, service.ErrNotInstalled) {
		return st, nil
	}
	st.Installed, st.Running = true, status == service.StatusRunning
	st.Where = `HKLM\SYSTEM\CurrentControlSet\Services\` + name
	return st, err
}

// restartPause is how long the manager's view of a stopped service lags.
const restartPause = 500 * time.Millisecond

// Control starts, stops or restarts what is registered: "start", "stop", "restart".
func Control(ctx context.Context, _ Runner, name string, perUser bool, verb string) error {
	if perUser {
		return errPerUser
	}
	s, err := registered(name)
	if err != nil {
		return err
	}
	switch verb {
	case "start":
		return s.Start()
	case "stop":
		return s.Stop()
	case "restart":
		if err := s.Stop(); err != nil && !errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) {
			return err
		}
		select {
		case <-time.After(restartPause):
		case <-ctx.Done():
			return ctx.Err()
		}
		return s.Start()
	}
	return fmt.Errorf("a service cannot be told to %q", verb)
}
