package hostsvc

// HostEvent is what happens to the computer as a whole.
type HostEvent int

const (
	HostSleeps HostEvent = iota // it is about to sleep
	HostWakes                   // it has slept
	HostStops                   // it is about to power off or restart
)

// Inhibitor asks the system to wait with stopping, as long as it will, until
// Release.
type Inhibitor struct{ release func() error }

// Release lets the system stop. It may be called more than once.
func (i *Inhibitor) Release() error {
	if i == nil || i.release == nil {
		return nil
	}
	f := i.release
	i.release = nil
	return f()
}
