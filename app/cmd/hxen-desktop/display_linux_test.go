package main

import (
	"net"
	"strings"
	"testing"
)

func TestCheckDisplay(t *testing.T) {
	l, err := net.Listen("unix", "@/tmp/.X11-unix/X60999")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, c := range map[string]struct {
		env  map[string]string
		want string
	}{
		"nothing":   {nil, "neither DISPLAY nor WAYLAND_DISPLAY is set"},
		"wayland":   {map[string]string{"WAYLAND_DISPLAY": "wayland-0"}, ""},
		"there":     {map[string]string{"DISPLAY": ":60999.0"}, ""},
		"gone":      {map[string]string{"DISPLAY": ":60998"}, "cannot be reached"},
		"elsewhere": {map[string]string{"DISPLAY": "far.example:0"}, ""},
		"nonsense":  {map[string]string{"DISPLAY": "x"}, "HOST:NUMBER"},
		"no number": {map[string]string{"DISPLAY": ":x"}, "not a number"},
	} {
		err := checkDisplay(func(k string) string { return c.env[k] })
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "hxen --help")):
			t.Errorf("%s: %v, want %q and what to do", name, err, c.want)
		}
	}
}
