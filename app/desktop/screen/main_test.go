package screen

import (
	"bufio"
	"context"
	"fmt"
	"image/png"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/app"
)

// windowEnv names a socket with an RFB server: the test's program is then a real
// window that shows it, driven by lines on its standard input.
const windowEnv = "HXEN_SCREEN_TEST_WINDOW"

func TestMain(m *testing.M) {
	if sock := os.Getenv(windowEnv); sock != "" {
		window(sock)
		return
	}
	os.Exit(m.Run())
}

// window shows the guest at sock until its standard input ends. Lines in:
// "mode N", "size W H" (device pixels), "paints", "paced", "pane", "snapshot FILE", "type TEXT",
// "keys COMBINATION". Each is answered by one line; events come as lines with a
// star.
func window(sock string) {
	a := app.NewWithID("org.hxen.screentest")
	w := a.NewWindow("screentest")
	w.SetPadded(false)
	s := New(func(ctx context.Context) (io.ReadWriteCloser, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", sock)
	})
	s.OnConnection = func(live bool, err error) { fmt.Println("* connection", live, err) }
	s.OnGrab = func(g bool) { fmt.Println("* grab", g) }
	w.SetContent(s.View())
	w.SetOnClosed(s.Close)
	resize := func(width, height float32) {
		f := w.Canvas().Scale()
		w.Resize(fyne.NewSize(width/f, height/f))
	}
	resize(640, 400)
	s.Start()
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			verb, rest, _ := strings.Cut(in.Text(), " ")
			fyne.DoAndWait(func() { fmt.Println(order(s, verb, rest, resize)) })
		}
		fyne.Do(a.Quit)
	}()
	a.Lifecycle().SetOnStarted(Pace)
	w.ShowAndRun()
}

func order(s *Screen, verb, rest string, resize func(w, h float32)) any {
	switch verb {
	case "paints":
		return s.Paints()
	case "paced":
		d := driverFields(fyne.CurrentApp().Driver())
		return d != nil && !dirty(d.windows.Index(0)) && loop.running
	case "pane":
		return s.picture.pane.works && !s.picture.raster.Visible()
	case "mode":
		var m Mode
		fmt.Sscan(rest, &m)
		s.SetMode(m)
	case "size":
		var w, h float32
		fmt.Sscan(rest, &w, &h)
		resize(w, h)
	case "guest":
		return s.GuestSize()
	case "place":
		return s.place
	case "keys":
		if err := s.SendKeys(rest); err != nil {
			return err
		}
	case "type":
		go s.TypeText(context.Background(), rest+"\n")
	case "snapshot":
		f, err := os.Create(rest)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := png.Encode(f, s.Snapshot()); err != nil {
			return err
		}
	}
	return "ok"
}
