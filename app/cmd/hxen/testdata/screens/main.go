// Command screens is a service for a test: it has one guest, which runs, and whose
// screen is what a QEMU shows over TCP at an address of this computer. All between
// that and the window is real: the pipe, the API, the console's stream.
//
//	screens 127.0.0.1:5901
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/platform/localsock"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

func main() {
	if err := serve(os.Args[1]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func serve(qemu string) error {
	store, err := paths.Default()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(store.Root, 0o700); err != nil {
		return err
	}
	lock, err := proc.TryLock(store.Lock())
	if err != nil {
		return err
	}
	defer lock.Close()
	run, err := store.ClaimRunDir()
	if err != nil {
		return err
	}
	l, err := localsock.Listen(paths.Socket(run))
	if err != nil {
		return err
	}
	const host, guest, console = "00000000-0000-4000-8000-000000000001", "11111111-1111-4111-8111-000000000001", "22222222-2222-4222-8222-000000000001"
	s := rpc.New(rpc.NewDB(), rpc.Options{Host: api.RefOf(host)})
	s.DB().Put(api.RefOf(host), api.Host{UUID: host})
	s.DB().Put(api.RefOf(guest), api.VM{UUID: guest, NameLabel: "on Linux", PowerState: "Running", DomID: 1, ResidentOn: api.RefOf(host),
		MemoryStaticMax: 64 << 20, VCPUsMax: 1, Consoles: []api.Ref{api.RefOf(console)}})
	s.DB().Put(api.RefOf(console), api.Console{UUID: console, Protocol: api.ProtocolRFB, VM: api.RefOf(guest)})
	s.HandleStream(api.PathConsole, func(*rpc.Call, *http.Request) (io.ReadWriteCloser, error) { return net.Dial("tcp", qemu) })
	s.RegisterPlugin(api.Plugin, api.FnVersion, func(*rpc.Call) (api.Version, error) { return api.Version{PID: os.Getpid()}, nil })
	s.RegisterPlugin(api.Plugin, api.FnList, func(*rpc.Call) ([]api.ListRow, error) { return nil, nil })
	fmt.Println("ready")
	return s.Serve(l)
}
