package cli

import (
	"fmt"
	"testing"

	"github.com/hxen-project/hxen/app/api"
)

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "1": 1, "1024": 1024, "512M": 512 << 20, "512m": 512 << 20, "2G": 2 << 30, "2GiB": 2 << 30, "2gb": 2 << 30,
		"1.5G": 3 << 29, " 20G ": 20 << 30, "4 K": 4096, "1T": 1 << 40, "7b": 7, ".5K": 512,
	} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "G", "-1G", "1X", "1GG", "1Gi2", "1e3", "0x10", "inf", "nan", "1.0000000001K", "99999999T", "1..2G", "2 G B", "١G", "1ib"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("%q was taken as %d", in, got)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"512M", "1.5GiB", "", "9999999999999999999999T", "1e3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSize(s)
		if err == nil && n < 0 {
			t.Errorf("%q is %d", s, n)
		}
	})
}

func TestParseForward(t *testing.T) {
	for in, want := range map[string]string{
		"2222:22": "tcp  2222 22", "udp/53:5353": "udp  53 5353", "127.0.0.1:8080:80": "tcp 127.0.0.1 8080 80",
		"tcp/[::1]:8080:80": "tcp ::1 8080 80", "0.0.0.0:1:65535": "tcp 0.0.0.0 1 65535",
	} {
		f, err := parseForward(in)
		if got := forwardWords(f); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "22", "a:b", "0:22", "22:0", "65536:22", "22:65536", "sctp/1:2", "host:1:2", "1:2:3:4", ":22", "22:", "-1:5"} {
		if f, err := parseForward(in); err == nil {
			t.Errorf("%q was taken as %+v", in, f)
		}
	}
}

func FuzzParseForward(f *testing.F) {
	for _, s := range []string{"2222:22", "udp/[::1]:53:53", "", "::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if fw, err := parseForward(s); err == nil && (fw.From == 0 || fw.To == 0) {
			t.Errorf("%q is %+v", s, fw)
		}
	})
}

func forwardWords(f api.Forward) string {
	return fmt.Sprintf("%s %s %d %d", f.Proto, f.Host, f.From, f.To)
}
