package api

import (
	"reflect"
	"slices"
)

// Class names, as they stand in method names.
const (
	ClassSession        = "session"
	ClassTask           = "task"
	ClassPool           = "pool"
	ClassHost           = "host"
	ClassHostMetrics    = "host_metrics"
	ClassHostCPU        = "host_cpu"
	ClassVM             = "VM"
	ClassVMMetrics      = "VM_metrics"
	ClassVMGuestMetrics = "VM_guest_metrics"
	ClassVBD            = "VBD"
	ClassVDI            = "VDI"
	ClassSR             = "SR"
	ClassPBD            = "PBD"
	ClassVIF            = "VIF"
	ClassNetwork        = "network"
	ClassConsole        = "console"
)

// classes is the registry: every class that has records, and their Go type.
var classes = map[string]reflect.Type{
	ClassSession:        reflect.TypeFor[Session](),
	ClassTask:           reflect.TypeFor[Task](),
	ClassPool:           reflect.TypeFor[Pool](),
	ClassHost:           reflect.TypeFor[Host](),
	ClassHostMetrics:    reflect.TypeFor[HostMetrics](),
	ClassHostCPU:        reflect.TypeFor[HostCPU](),
	ClassVM:             reflect.TypeFor[VM](),
	ClassVMMetrics:      reflect.TypeFor[VMMetrics](),
	ClassVMGuestMetrics: reflect.TypeFor[VMGuestMetrics](),
	ClassVBD:            reflect.TypeFor[VBD](),
	ClassVDI:            reflect.TypeFor[VDI](),
	ClassSR:             reflect.TypeFor[SR](),
	ClassPBD:            reflect.TypeFor[PBD](),
	ClassVIF:            reflect.TypeFor[VIF](),
	ClassNetwork:        reflect.TypeFor[Network](),
	ClassConsole:        reflect.TypeFor[Console](),
}

// names is classes backwards.
var names = func() map[reflect.Type]string {
	m := make(map[reflect.Type]string, len(classes))
	for name, t := range classes {
		m[t] = name
	}
	return m
}()

// Classes returns the names of all classes that have records, sorted.
func Classes() []string {
	out := make([]string, 0, len(classes))
	for name := range classes {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// TypeOf returns the Go type of a class's records, nil for an unknown class.
func TypeOf(class string) reflect.Type { return classes[class] }

// ClassOf returns the class of a record type, empty if t is none.
func ClassOf(t reflect.Type) string { return names[t] }

// HasEvents reports whether changes to the class's objects are events. As in
// xapi, sessions are everybody's own affair.
func HasEvents(class string) bool { return classes[class] != nil && class != ClassSession }

// Fill gives the record that p points to the values that the wire has for
// "nothing": empty maps and sets instead of nil, NullRef instead of "". It
// changes no other field.
func Fill(p any) {
	v := reflect.ValueOf(p).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		switch f.Kind() {
		case reflect.Map:
			if f.IsNil() {
				f.Set(reflect.MakeMap(f.Type()))
			}
		case reflect.Slice:
			if f.IsNil() {
				f.Set(reflect.MakeSlice(f.Type(), 0, 0))
			}
		case reflect.String:
			if f.Type() == refType && f.String() == "" {
				f.SetString(string(NullRef))
			}
		}
	}
}

var refType = reflect.TypeFor[Ref]()
