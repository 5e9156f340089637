package hv

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func good() *Spec {
	return &Spec{
		Version: SpecVersion, UUID: "11111111-2222-4333-8444-555555555555", Name: "demo", Type: HVM,
		VCPUs: 1, Memory: 256 * MiB, Firmware: BIOS,
		Disks: []Disk{{UUID: "11111111-2222-4333-8444-555555555556", Path: "disk.qcow2", Format: QCOW2, Mode: ReadWrite}},
		NICs:  []NIC{{UUID: "11111111-2222-4333-8444-555555555557", MAC: "02:00:00:00:00:01", Network: "11111111-2222-4333-8444-555555555558", Forwards: []Forward{{From: 2222, To: 22}}}},
	}
}

func TestSpecCheck(t *testing.T) {
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	bad := map[string]func(*Spec){
		"version":   func(s *Spec) { s.Version = 2 },
		"uuid":      func(s *Spec) { s.UUID = "../../etc" },
		"name":      func(s *Spec) { s.Name = "a\nb" },
		"type":      func(s *Spec) { s.Type = "pv" },
		"vcpus":     func(s *Spec) { s.VCPUs = 0 },
		"memory":    func(s *Spec) { s.Memory = 17*MiB + 1 },
		"firmware":  func(s *Spec) { s.Firmware = "coreboot" },
		"order":     func(s *Spec) { s.Boot.Order = "x" },
		"kernel":    func(s *Spec) { s.Boot.Cmdline = "quiet" },
		"format":    func(s *Spec) { s.Disks[0].Format = "vmdk" },
		"mode":      func(s *Spec) { s.Disks[0].Mode = "w" },
		"own":       func(s *Spec) { s.Disks = append(s.Disks, s.Disks[0]) },
		"read-only": func(s *Spec) { s.Disks[0].Kind = KindCDROM },
		"MAC":       func(s *Spec) { s.NICs[0].MAC = "01:00:00:00:00:01" },
		"ports":     func(s *Spec) { s.NICs[0].Forwards[0].To = 0 },
		"adapter":   func(s *Spec) { s.Display.Adapter = "cirrus" },
		"on_crash":  func(s *Spec) { s.OnCrash = "explode" },
	}
	for word, breakIt := range bad {
		s := good()
		breakIt(s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: got %v", word, err)
		}
	}
}

func TestSpecKeepsUnknownFields(t *testing.T) {
	b, _ := json.Marshal(good())
	in := strings.Replace(string(b), `"name"`, `"tomorrow":{"a":[1,2]},"name"`, 1)
	var s Spec
	if err := json.Unmarshal([]byte(in), &s); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(s.Clone())
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := json.Unmarshal(out, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back["tomorrow"], map[string]any{"a": []any{1.0, 2.0}}) || back["name"] != "demo" {
		t.Fatalf("unknown field lost: %s", out)
	}
}

func FuzzSpec(f *testing.F) {
	b, _ := json.Marshal(good())
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Spec
		if json.Unmarshal(b, &s) != nil || s.Check() != nil {
			return
		}
		if c := s.Clone(); c.Check() != nil {
			t.Fatalf("a good spec turned bad by a round trip: %s", b)
		}
	})
}

// TestClone: a copy of a Spec in which all is set is like it, and shares nothing.
func TestClone(t *testing.T) {
	var s Spec
	fill(reflect.ValueOf(&s).Elem())
	c := s.Clone()
	if !reflect.DeepEqual(&s, c) {
		t.Errorf("the copy is %+v, of %+v", *c, s)
	}
	shared(t, "Spec", reflect.ValueOf(s), reflect.ValueOf(*c))
}

// fill sets all of v.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Map:
		value := reflect.New(v.Type().Elem()).Elem()
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key"), value)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(7)
	case reflect.Uint64, reflect.Uint16, reflect.Uint8:
		v.SetUint(7)
	default:
		panic("a Spec with a " + v.Kind().String())
	}
}

// shared finds memory that a and b have in common.
func shared(t *testing.T, path string, a, b reflect.Value) {
	t.Helper()
	switch a.Kind() {
	case reflect.Slice, reflect.Map, reflect.Pointer:
		if a.Pointer() == b.Pointer() {
			t.Errorf("%s is shared", path)
			return
		}
	}
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			shared(t, path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
		}
	case reflect.Slice:
		for i := range a.Len() {
			shared(t, path, a.Index(i), b.Index(i))
		}
	case reflect.Map:
		for _, k := range a.MapKeys() {
			shared(t, path, a.MapIndex(k), b.MapIndex(k))
		}
	}
}

func TestOperationTable(t *testing.T) {
	for _, s := range []PowerState{Halted, Running, Paused, Suspended} {
		for _, op := range Allowed(s) {
			if !CanDo(op, s) {
				t.Errorf("%s in %s", op, s)
			}
		}
	}
	if CanDo(OpStart, Running) || !CanDo(OpStart, Halted) || CanDo(OpDestroy, Paused) || Accepts("nonsense") != nil {
		t.Error("the table lost its meaning")
	}
}
