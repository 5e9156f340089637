package xenstore

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// DomainConfig is what a new domain's nodes say.
type DomainConfig struct {
	Domid       int
	UUID, Name  string
	MemoryKiB   uint64
	VCPUs       int
	StorePort   uint32
	StoreGFN    uint64
	ConsolePort uint32
	ConsoleGFN  uint64
}

// rules for the nodes of a domain's home: the guest reads all of it and writes
// only what it owns (libxl__domain_make in Xen's tools).
func readable(domid int) []Perm { return []Perm{{Domid: 0}, {Domid: domid, Read: true}} }
func ownedBy(domid int) []Perm  { return []Perm{{Domid: domid}} }

// Introduce makes the nodes that every domain finds at its start and tells
// the watches of @introduceDomain.
func (c *Client) Introduce(d DomainConfig) error {
	home, vm := Home(d.Domid), "/vm/"+d.UUID
	itoa := func(n uint64) string { return strconv.FormatUint(n, 10) }
	nodes := map[string]string{
		home + "/domid": strconv.Itoa(d.Domid), home + "/name": d.Name, home + "/vm": vm,
		vm + "/name": d.Name, vm + "/uuid": d.UUID,
		home + "/memory/target": itoa(d.MemoryKiB), home + "/memory/static-max": itoa(d.MemoryKiB), home + "/memory/videoram": "0",
		home + "/control/platform-feature-xs_reset_watches": "1",
		home + "/store/port": itoa(uint64(d.StorePort)), home + "/store/ring-ref": itoa(d.StoreGFN),
		home + "/console/type": "xenconsoled", home + "/console/port": itoa(uint64(d.ConsolePort)),
		home + "/console/ring-ref": itoa(d.ConsoleGFN), home + "/console/limit": "1048576", home + "/console/output": "pty",
		home + "/device": "", home + "/vm-data/hostname": d.Name,
	}
	for i := range d.VCPUs {
		nodes[fmt.Sprintf("%s/cpu/%d/availability", home, i)] = "online"
	}
	writable := []string{"data", "drivers", "feature", "attr", "error", "control/shutdown", "control/sysrq",
		"control/feature-poweroff", "control/feature-reboot", "control/feature-suspend", "control/feature-s3", "control/feature-s4"}
	err := c.Do(func(t *Tx) error {
		// Children inherit: the tops first.
		for _, top := range []string{home, vm} {
			if err := t.Write(top, ""); err != nil {
				return err
			}
			if err := t.SetPermissions(top, readable(d.Domid)...); err != nil {
				return err
			}
		}
		for _, path := range slices.Sorted(maps.Keys(nodes)) {
			if err := t.Write(path, nodes[path]); err != nil {
				return err
			}
		}
		for _, name := range writable {
			if err := t.Write(home+"/"+name, ""); err != nil {
				return err
			}
			if err := t.SetPermissions(home+"/"+name, ownedBy(d.Domid)...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("introduce domain %d to XenStore: %w", d.Domid, err)
	}
	c.special("@introduceDomain")
	return nil
}

// Reintroduce gives a domain that goes on as another one its new identity: the
// nodes that Introduce made of its name and uuid.
func (c *Client) Reintroduce(d DomainConfig, oldUUID string) error {
	home, vm := Home(d.Domid), "/vm/"+d.UUID
	err := c.Do(func(t *Tx) error {
		if _, err := t.Read("/vm/" + oldUUID); err == nil {
			if err := t.Remove("/vm/" + oldUUID); err != nil {
				return err
			}
		}
		if err := t.Write(vm, ""); err != nil {
			return err
		}
		if err := t.SetPermissions(vm, readable(d.Domid)...); err != nil {
			return err
		}
		nodes := map[string]string{
			vm + "/name": d.Name, vm + "/uuid": d.UUID,
			home + "/vm": vm, home + "/name": d.Name, home + "/vm-data/hostname": d.Name,
		}
		for _, path := range slices.Sorted(maps.Keys(nodes)) {
			if err := t.Write(path, nodes[path]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("give domain %d another identity in XenStore: %w", d.Domid, err)
	}
	return nil
}

// Release removes all of a domain's nodes, its back ends' too, and tells the
// watches of @releaseDomain.
func (c *Client) Release(domid int, uuid string) error {
	err := c.Do(func(t *Tx) error {
		paths := []string{Home(domid), "/vm/" + uuid}
		if types, err := t.Directory(Home(0) + "/backend"); err == nil {
			for _, typ := range types {
				paths = append(paths, fmt.Sprintf("%s/backend/%s/%d", Home(0), typ, domid))
			}
		}
		for _, p := range paths {
			if _, err := t.Read(p); err != nil {
				continue
			}
			if err := t.Remove(p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("release domain %d from XenStore: %w", domid, err)
	}
	c.special("@releaseDomain")
	return nil
}

// special fires the watches of a special path; guests may not hear of others.
func (c *Client) special(path string) {
	s := c.conn.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		for _, w := range conn.watches {
			if conn.domid == 0 && w.path == path {
				conn.eventLocked(w, path)
			}
		}
	}
}

// Device is a split driver's pair of directories.
type Device struct {
	Domid int
	Type  string // vbd, vif, vfb, vkbd
	ID    int
	Front map[string]string // beside backend, backend-id and state
	Back  map[string]string // beside frontend, frontend-id, online and state
}

// FrontPath and BackPath are the two directories.
func (d Device) FrontPath() string {
	return fmt.Sprintf("%s/device/%s/%d", Home(d.Domid), d.Type, d.ID)
}
func (d Device) BackPath() string {
	return fmt.Sprintf("%s/backend/%s/%d/%d", Home(0), d.Type, d.Domid, d.ID)
}

// AddDevice makes a device's directories in one transaction, the front end in
// state Initialising, the back end in InitWait (io/xenbus.h). The guest owns
// its own and reads the other.
func (c *Client) AddDevice(d Device) error {
	front := map[string]string{"backend": d.BackPath(), "backend-id": "0", "state": "1"}
	back := map[string]string{"frontend": d.FrontPath(), "frontend-id": strconv.Itoa(d.Domid), "online": "1", "state": "2"}
	maps.Copy(front, d.Front)
	maps.Copy(back, d.Back)
	add := func(t *Tx, dir string, nodes map[string]string, perms ...Perm) error {
		if err := t.Write(dir, ""); err != nil {
			return err
		}
		if err := t.SetPermissions(dir, perms...); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(nodes)) {
			if err := t.Write(dir+"/"+name, nodes[name]); err != nil {
				return err
			}
		}
		return nil
	}
	err := c.Do(func(t *Tx) error {
		if err := add(t, d.BackPath(), back, readable(d.Domid)...); err != nil {
			return err
		}
		return add(t, d.FrontPath(), front, Perm{Domid: d.Domid}, Perm{Domid: 0, Read: true})
	})
	if err != nil {
		return fmt.Errorf("add %s %d of domain %d to XenStore: %w", d.Type, d.ID, d.Domid, err)
	}
	return nil
}
