package api

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// XMLValue turns a JSON result into the XML-RPC value that xapi puts into a
// task's result: whole numbers are decimal strings, maps are structs, nothing is
// the empty string.
func XMLValue(result json.RawMessage) (string, error) {
	if len(result) == 0 || string(result) == `""` || string(result) == "null" {
		return "", nil
	}
	d := json.NewDecoder(bytes.NewReader(result))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return "", fmt.Errorf("read a task's result: %w", err)
	}
	var b strings.Builder
	writeXML(&b, v)
	return b.String(), nil
}

func writeXML(b *strings.Builder, v any) {
	b.WriteString("<value>")
	switch v := v.(type) {
	case string:
		// A strings.Builder does not fail.
		_ = xml.EscapeText(b, []byte(v))
	case json.Number:
		if _, err := v.Int64(); err == nil {
			b.WriteString(v.String())
		} else {
			b.WriteString("<double>" + v.String() + "</double>")
		}
	case bool:
		n := 0
		if v {
			n = 1
		}
		b.WriteString("<boolean>" + strconv.Itoa(n) + "</boolean>")
	case []any:
		b.WriteString("<array><data>")
		for _, e := range v {
			writeXML(b, e)
		}
		b.WriteString("</data></array>")
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		b.WriteString("<struct>")
		for _, k := range keys {
			b.WriteString("<member><name>")
			_ = xml.EscapeText(b, []byte(k))
			b.WriteString("</name>")
			writeXML(b, v[k])
			b.WriteString("</member>")
		}
		b.WriteString("</struct>")
	}
	b.WriteString("</value>")
}

// ResultString reads a task's result that is a string: a Ref, or the JSON text
// of a plugin. No result is the empty string.
func ResultString(result string) (string, error) {
	if result == "" {
		return "", nil
	}
	d := xml.NewDecoder(strings.NewReader(result))
	var out strings.Builder
	depth := 0
	for {
		t, err := d.Token()
		if err == io.EOF && depth == 0 {
			return out.String(), nil
		}
		if err != nil {
			return "", fmt.Errorf("read a task's result: %w", err)
		}
		switch t := t.(type) {
		case xml.StartElement:
			if n := t.Name.Local; (depth == 0 && n != "value") || (depth == 1 && n != "string") || depth > 1 {
				return "", fmt.Errorf("read a task's result: it is not a string but <%s>", n)
			}
			depth++
		case xml.EndElement:
			depth--
		case xml.CharData:
			out.Write(t)
		}
	}
}
