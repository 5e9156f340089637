package guestmem

// Bits of the registers that decide how a linear address is translated
// (Intel SDM volume 3, chapter 4).
const (
	cr0WP   = 1 << 16
	cr0PG   = 1 << 31
	cr4PSE  = 1 << 4
	cr4PAE  = 1 << 5
	cr4LA57 = 1 << 12
	eferLMA = 1 << 10

	ptePresent = 1 << 0
	pteWrite   = 1 << 1
	pteLarge   = 1 << 7
	pteAddr    = 0x000f_ffff_ffff_f000
)

// Paging is the state of a vCPU that translates its linear addresses.
type Paging struct {
	CR0, CR3, CR4, EFER uint64
}

// Long reports whether the vCPU is in long mode.
func (p Paging) Long() bool { return p.EFER&eferLMA != 0 }

// Translate walks the guest's page tables as a supervisor's access would and
// returns the guest physical address. It neither checks user, execute and
// protection-key rights nor sets accessed and dirty bits: those who ask are
// kernels at CPL 0 about buffers of theirs.
func (m *Memory) Translate(p Paging, linear uint64, write bool) (gpa uint64, ok bool) {
	write = write && p.CR0&cr0WP != 0
	switch {
	case p.CR0&cr0PG == 0:
		return linear & 0xffff_ffff, true
	case p.Long():
		top := uint(47)
		if p.CR4&cr4LA57 != 0 {
			top = 56
		}
		if high := int64(linear) >> top; high != 0 && high != -1 {
			return 0, false
		}
		return m.walk(p.CR3&pteAddr, linear, top-8, write)
	case p.CR4&cr4PAE != 0:
		linear &= 0xffff_ffff
		pdpte, err := m.Load64(p.CR3&0xffff_ffe0 + linear>>30*8)
		if err != nil || pdpte&ptePresent == 0 {
			return 0, false
		}
		return m.walk(pdpte&pteAddr, linear, 21, write)
	}
	return m.walk32(p, linear&0xffff_ffff, write)
}

// walk goes down tables of 512 entries of 64 bits from the one whose index
// starts at bit shift of the address.
func (m *Memory) walk(table, linear uint64, shift uint, write bool) (uint64, bool) {
	for {
		e, err := m.Load64(table + linear>>shift&511*8)
		if err != nil || e&ptePresent == 0 || write && e&pteWrite == 0 {
			return 0, false
		}
		if shift == 12 || e&pteLarge != 0 && shift <= 30 {
			mask := uint64(1)<<shift - 1
			return e&pteAddr&^mask | linear&mask, true
		}
		table, shift = e&pteAddr, shift-9
	}
}

// walk32 goes down the two levels of 32-bit entries, with 4 MiB pages and
// their further address bits (PSE-36).
func (m *Memory) walk32(p Paging, linear uint64, write bool) (uint64, bool) {
	pde, err := m.Load32(p.CR3&0xffff_f000 + linear>>22*4)
	if err != nil || pde&ptePresent == 0 || write && pde&pteWrite == 0 {
		return 0, false
	}
	if pde&pteLarge != 0 && p.CR4&cr4PSE != 0 {
		return uint64(pde)&0xffc0_0000 | uint64(pde)>>13&0xff<<32 | linear&0x3f_ffff, true
	}
	pte, err := m.Load32(uint64(pde)&0xffff_f000 + linear>>12&1023*4)
	if err != nil || pte&ptePresent == 0 || write && pte&pteWrite == 0 {
		return 0, false
	}
	return uint64(pte)&0xffff_f000 | linear&0xfff, true
}

// ReadLinear fills b from the vCPU's linear address, page by page.
func (m *Memory) ReadLinear(p Paging, linear uint64, b []byte) error {
	return m.eachPage(p, linear, b, false, m.Read)
}

// WriteLinear copies b to the vCPU's linear address, page by page. Pages
// before one that faults have been written.
func (m *Memory) WriteLinear(p Paging, linear uint64, b []byte) error {
	return m.eachPage(p, linear, b, true, m.Write)
}

func (m *Memory) eachPage(p Paging, linear uint64, b []byte, write bool, f func(uint64, []byte) error) error {
	for len(b) > 0 {
		n := min(PageSize-int(linear&(PageSize-1)), len(b))
		gpa, ok := m.Translate(p, linear, write)
		if !ok {
			return Fault{linear, uint64(n)}
		}
		if err := f(gpa, b[:n]); err != nil {
			return err
		}
		linear, b = linear+uint64(n), b[n:]
	}
	return nil
}
