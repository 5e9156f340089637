package api

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestEveryFieldHasAUniqueName(t *testing.T) {
	for _, class := range Classes() {
		typ := TypeOf(class)
		if ClassOf(typ) != class {
			t.Errorf("%s: its type names class %q", class, ClassOf(typ))
		}
		seen := map[string]bool{}
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := f.Tag.Get("json")
			if name == "" || strings.ContainsAny(name, ", ") {
				t.Errorf("%s.%s: json name %q", class, f.Name, name)
			}
			if seen[name] {
				t.Errorf("%s: two fields are called %s", class, name)
			}
			seen[name] = true
		}
		if !seen["uuid"] {
			t.Errorf("%s has no uuid", class)
		}
	}
}

// something returns a value of type t that is not zero.
func something(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch {
	case t == reflect.TypeFor[Time]():
		v.Set(reflect.ValueOf(Time{time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)}))
	case t == refType:
		v.SetString(string(RefOf("01234567-89ab-4def-8123-456789abcdef")))
	case t.Kind() == reflect.String:
		v.SetString("a <b> & \"c\"")
	case t.Kind() == reflect.Int64:
		v.SetInt(1<<62 + 1)
	case t.Kind() == reflect.Float64:
		v.SetFloat(0.25)
	case t.Kind() == reflect.Bool:
		v.SetBool(true)
	case t.Kind() == reflect.Slice:
		v.Set(reflect.Append(v, something(t.Elem())))
	case t.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(t))
		v.SetMapIndex(something(t.Key()), something(t.Elem()))
	default:
		panic("no value for " + t.String())
	}
	return v
}

func TestRecordsRoundTrip(t *testing.T) {
	for _, class := range Classes() {
		want := reflect.New(TypeOf(class))
		for i := range want.Elem().NumField() {
			want.Elem().Field(i).Set(something(want.Elem().Field(i).Type()))
		}
		raw, err := json.Marshal(want.Interface())
		if err != nil {
			t.Fatalf("%s: %v", class, err)
		}
		got := reflect.New(TypeOf(class))
		if err := json.Unmarshal(raw, got.Interface()); err != nil {
			t.Fatalf("%s: %v", class, err)
		}
		if !reflect.DeepEqual(got.Interface(), want.Interface()) {
			t.Errorf("%s came back as\n%+v\nnot\n%+v", class, got.Elem(), want.Elem())
		}
	}
}

// TestEmptyRecordsAreStrict: strict clients fail on null, and on a reference
// that is empty.
func TestEmptyRecordsAreStrict(t *testing.T) {
	for _, class := range Classes() {
		p := reflect.New(TypeOf(class))
		Fill(p.Interface())
		raw, err := json.Marshal(p.Interface())
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(raw, []byte("null")) {
			t.Errorf("%s has a null: %s", class, raw)
		}
		for i := range p.Elem().NumField() {
			if f := p.Elem().Field(i); f.Type() == refType && Ref(f.String()) != NullRef {
				t.Errorf("%s.%s is %q", class, p.Elem().Type().Field(i).Name, f)
			}
		}
	}
}

func TestRefs(t *testing.T) {
	const uuid = "01234567-89ab-4def-8123-456789abcdef"
	if RefOf(uuid).UUID() != uuid || RefOf("") != NullRef || NullRef.UUID() != "" || Ref("x").UUID() != "" {
		t.Error("references and uuids do not translate")
	}
	if !Ref("").IsNull() || !NullRef.IsNull() || RefOf(uuid).IsNull() {
		t.Error("IsNull")
	}
	raw, err := json.Marshal(struct {
		A Ref
		B []Ref
		C map[Ref]Ref
	}{B: []Ref{""}, C: map[Ref]Ref{"k": ""}})
	if want := `{"A":"OpaqueRef:NULL","B":["OpaqueRef:NULL"],"C":{"k":"OpaqueRef:NULL"}}`; err != nil || string(raw) != want {
		t.Errorf("%s %v, want %s", raw, err, want)
	}
}

func TestTimes(t *testing.T) {
	for in, want := range map[Time]string{
		{}: `"19700101T00:00:00Z"`,
		{time.Date(2026, 1, 2, 16, 4, 5, 9, time.FixedZone("", 3600))}: `"20260102T15:04:05Z"`,
	} {
		raw, err := json.Marshal(in)
		if err != nil || string(raw) != want {
			t.Errorf("%s %v, want %s", raw, err, want)
		}
		var back Time
		if err := json.Unmarshal(raw, &back); err != nil || back.Unix() != in.Unix() && !in.IsZero() || in.IsZero() != back.IsZero() {
			t.Errorf("%s came back as %v (%v)", raw, back, err)
		}
	}
	if err := json.Unmarshal([]byte(`"yesterday"`), new(Time)); err == nil {
		t.Error("yesterday is a time")
	}
}

func TestTaskResults(t *testing.T) {
	for in, want := range map[string]string{
		``:                         "",
		`""`:                       "",
		`null`:                     "",
		`"OpaqueRef:x"`:            "<value>OpaqueRef:x</value>",
		`"a<b>&"`:                  "<value>a&lt;b&gt;&amp;</value>",
		`12`:                       "<value>12</value>",
		`1.5`:                      "<value><double>1.5</double></value>",
		`true`:                     "<value><boolean>1</boolean></value>",
		`["x",false]`:              "<value><array><data><value>x</value><value><boolean>0</boolean></value></data></array></value>",
		`{"k":"v","<":1,"n":null}`: "<value><struct><member><name>&lt;</name><value>1</value></member><member><name>k</name><value>v</value></member><member><name>n</name><value></value></member></struct></value>",
	} {
		got, err := XMLValue(json.RawMessage(in))
		if err != nil || got != want {
			t.Errorf("%s: %s %v, want %s", in, got, err, want)
		}
	}
	for _, s := range []string{"", "OpaqueRef:x", "{\"a\":\"<&>\\n\"}", "a\n\tb\r é"} {
		raw, _ := json.Marshal(s)
		x, err := XMLValue(raw)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ResultString(x); err != nil || back != s {
			t.Errorf("%q came back as %q (%v)", s, back, err)
		}
	}
	for _, bad := range []string{"<value>", "<x>1</x>", "<value><array/></value>", "<value></x>"} {
		if s, err := ResultString(bad); err == nil {
			t.Errorf("%s was read as %q", bad, s)
		}
	}
}

func FuzzResultString(f *testing.F) {
	for _, s := range []string{"", "<value>a</value>", "<value><string>&lt;</string></value>", "<value><array/></value>", "<value>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, result string) {
		s, err := ResultString(result)
		if err != nil {
			return
		}
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		// What it reads it reads again from what we write.
		x, err := XMLValue(raw)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ResultString(x); err != nil || back != s {
			t.Fatalf("%q became %q (%v)", s, back, err)
		}
	})
}
