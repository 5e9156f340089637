package desktop

import (
	"bufio"
	"os/exec"
	"strings"
	"testing"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/app"
	"github.com/godbus/dbus/v5"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/desktop/model/modeltest"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// tray is a desktop's notification server (org.freedesktop.Notifications).
type tray chan [2]string

func (s tray) Notify(_ string, _ uint32, _, title, body string, _ []string, _ map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	s <- [2]string{title, body}
	return 1, nil
}

// newTray starts a session bus with a tray on it, which programs of this test find.
func newTray(t *testing.T) tray {
	t.Helper()
	hvtest.Require(t, "display")
	daemon := exec.Command("dbus-daemon", "--session", "--nofork", "--print-address")
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = daemon.Process.Kill(); _ = daemon.Wait() })
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", strings.TrimSpace(address))
	conn, err := dbus.Connect(strings.TrimSpace(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := make(tray, 10)
	const name = "org.freedesktop.Notifications"
	if err := conn.Export(s, "/org/freedesktop/Notifications", name); err != nil {
		t.Fatal(err)
	}
	if r, err := conn.RequestName(name, 0); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("own %s: %v, %v", name, r, err)
	}
	return s
}

// TestTray: a crash reaches the desktop's notifications over a real bus, once the
// user has switched them on.
func TestTray(t *testing.T) {
	before := fyne.CurrentApp()
	defer fyne.SetCurrentApp(before)
	tray := newTray(t)
	svc := modeltest.New()
	vm := svc.Add("web", model.Running)
	s := newStage(t, svc)
	s.App.fyne = app.NewWithID(AppID)
	s.until("the guest", func() bool { return s.lib.Find("web") != nil })
	end := func(text string) {
		svc.Change(vm, func(v *api.VM) {
			v.PowerState, v.OtherConfig[api.KeyLastExit], v.OtherConfig[api.KeyLastText] = model.Halted, "crash", text
		})
		s.until(text, func() bool { return s.lib.Find("web").LastExit() == model.Sentence(text) })
	}
	f := &frame{app: s.App}
	end("it crashed while they were off")
	if item := f.notifyItem(); item.Checked {
		t.Error("they are on without being asked for")
	} else {
		item.Action()
	}
	if !s.prefs.Notify || !f.notifyItem().Checked {
		t.Fatal("they were not switched on")
	}
	end("it crashed again")
	if got := <-tray; got != [2]string{"web", "It crashed again."} {
		t.Errorf("the desktop was told %q", got)
	}
}
