package hostsvc

import (
	"net"
	"os"
	"strings"
)

// notifier is the socket of systemd's readiness protocol, sd_notify(3); nil
// without one.
type notifier struct{ addr *net.UnixAddr }

// takeNotifier reads NOTIFY_SOCKET and unsets it: our children are not the service.
func takeNotifier() *notifier {
	name := os.Getenv("NOTIFY_SOCKET")
	os.Unsetenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	if strings.HasPrefix(name, "@") {
		name = "\x00" + name[1:]
	}
	return &notifier{&net.UnixAddr{Name: name, Net: "unixgram"}}
}

func (n *notifier) tell(lines ...string) error {
	if n == nil {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, n.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(strings.Join(lines, "\n")))
	return err
}

var manager = takeNotifier()

// Ready tells the service manager that clients are answered.
func Ready() error { return manager.tell("READY=1") }

// Busy tells the service manager with what the service is busy while it ends. Not
// that it ends (STOPPING=1): it may do so because it has heard first that the
// computer stops, and systemd then never sends the SIGTERM that it waits for
// (service_enter_stop_by_notify in systemd's core/service.c).
func Busy(with string) error {
	return manager.tell("STATUS=" + strings.ReplaceAll(with, "\n", " "))
}
