package whp

// patience is how often in a row the guest is sent back to memory that the
// platform should let it at.
const patience = 10000

// serveMemory is for memory that is not there: it reads as all ones, and writes
// go nowhere.
func (v *vcpu) serveMemory() error {
	m := v.exit.memory()
	if v.vm.backed(m.gpa) { // it has come, or was being exchanged
		if v.at != m.gpa {
			v.at, v.again = m.gpa, 0
		}
		if v.again++; v.again > patience {
			return errTwice
		}
		return nil
	}
	v.again = 0
	if m.access&3 == WHvMemoryAccessExecute {
		return v.crashed("its code is in memory that is not there")
	}
	b, err := v.instruction(m.bytes[:min(m.count, 15)], 15)
	if err != nil {
		return err
	}
	i, ok := decode(b, v.mode())
	if !ok {
		return v.crashed("an instruction that goes to memory that is not there cannot be emulated")
	}
	if !i.load {
		return v.goOn(i.length)
	}
	r, err := v.load(i)
	if err != nil {
		return err
	}
	return v.goOn(i.length, r)
}

// load is what a register has after a load from memory that is not there.
func (v *vcpu) load(i move) (reg, error) {
	r := reg{name: WHvX64RegisterRax + uint32(i.register)}
	old, err := v.vm.get(v.id, r.name)
	if err != nil {
		return r, err
	}
	ones := ^uint64(0)
	if i.zeroFrom != 0 {
		ones = 1<<(8*i.zeroFrom) - 1
	}
	if i.high {
		r.to = old | 0xff00
	} else {
		r.to = merge(old, ones, i.size)
	}
	return r, nil
}
