// Command hxen-netd runs one virtual network. The service starts it, detached,
// and dials its control socket; it is not meant to be started by hand.
//
//	hxen-netd --dir NETDIR --run RUNDIR
//
// It takes the lock of the network's folder, listens, prints "ready" (or one
// sentence on what failed) and closes its standard output. What it did last it
// does again; the service may then change it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/hxen-project/hxen/app/netd"
)

// version is set by the linker.
var version = "dev"

func main() {
	dir := flag.String("dir", "", "the network's folder")
	run := flag.String("run", "", "the runtime folder for sockets")
	showVersion := flag.Bool("version", false, "print the version and end")
	flag.Parse()
	if *showVersion {
		fmt.Println("hxen-netd", version)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	signal.Ignore(syscall.SIGHUP)
	if err := netd.Run(ctx, *dir, *run, version, ready); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// ready tells whoever started us, who may be gone at any time after.
func ready() {
	fmt.Println("ready")
	os.Stdout.Close()
}
