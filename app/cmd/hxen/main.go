// Command hxen is HXEN's command line and, as "hxen service", its daemon. It
// only puts the parts together: main.go for the command line, daemon.go for the
// service, selftest.go for "hxen doctor --self-test".
package main

import (
	"os"

	"github.com/hxen-project/hxen/app/cli"
	"github.com/hxen-project/hxen/platform/accel"
	"github.com/hxen-project/hxen/platform/hostsvc"
)

// version is set by the linker.
var version = "dev"

func main() {
	accel.ProbeChild() // in the child that probes the accelerator this does not return
	selfTestChild()    // likewise
	os.Exit(cli.Main(cli.Options{
		Version: version, Service: serve, SelfTest: selfTest, Host: registration{hostsvc.Commands{}},
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
	}, os.Args[1:]))
}
