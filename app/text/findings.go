package text

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// What packages below this one find out about the computer they say in English,
// put together already. So it is recognised: by patterns in which "{}" stands for
// anything, one file of them for each language.

// finding is one pattern and its translation.
type finding struct {
	english *regexp.Regexp
	parts   []string // of the translation, around the places for what "{}" stood for
}

var findings struct {
	mu   sync.Mutex
	of   string            // guarded by mu; the language of what follows
	all  map[string]string // guarded by mu; sentences without a place
	list []finding         // guarded by mu; the longest first
}

// depth bounds translating what "{}" stood for, which may be a finding as well.
const depth = 4

// Finding returns the text for a sentence that hostinfo or accel has made; the
// sentence itself where it is not known.
func Finding(english string) string {
	language.once.Do(fromEnvironment)
	language.mu.RLock()
	name := language.name
	language.mu.RUnlock()
	switch name {
	case "":
		return english
	case Pseudo:
		return "[" + english + "]"
	}
	findings.mu.Lock()
	defer findings.mu.Unlock()
	if findings.of != name {
		loadFindings(name)
	}
	return translateFinding(english, depth)
}

func loadFindings(name string) {
	patterns := map[string]string{}
	if b, err := files.ReadFile(name + ".findings.json"); err == nil {
		if err := json.Unmarshal(b, &patterns); err != nil {
			panic("text: " + name + ".findings.json: " + err.Error()) // a test reads every one
		}
	}
	findings.of, findings.all, findings.list = name, map[string]string{}, nil
	keys := make([]string, 0, len(patterns))
	for english, text := range patterns {
		if !strings.Contains(english, place) {
			findings.all[english] = text
			continue
		}
		keys = append(keys, english)
	}
	slices.SortFunc(keys, func(a, b string) int { return len(b) - len(a) })
	for _, english := range keys {
		parts := strings.Split(english, place)
		for i, p := range parts {
			parts[i] = regexp.QuoteMeta(p)
		}
		findings.list = append(findings.list, finding{regexp.MustCompile(`(?s)\A` + strings.Join(parts, "(.+?)") + `\z`), strings.Split(patterns[english], place)})
	}
}

// place stands in a pattern for anything.
const place = "{}"

func translateFinding(english string, deep int) string {
	if s, ok := findings.all[english]; ok {
		return s
	}
	if deep == 0 {
		return english
	}
	for _, f := range findings.list {
		m := f.english.FindStringSubmatch(english)
		if m == nil {
			continue
		}
		var s strings.Builder
		for i, p := range f.parts {
			s.WriteString(p)
			if i+1 < len(m) {
				s.WriteString(translateFinding(m[i+1], deep-1))
			}
		}
		return s.String()
	}
	return english
}
