package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/martlet-mail/martlet/test/promise"
)

// record is what one test kept, and when that was.
type record struct {
	promise.Note
	When    string `json:"when,omitempty"`
	Seconds int    `json:"seconds,omitempty"` // that all tests of the promise took
}

// readRecords reads a file of lines; one that is not there has none.
func readRecords(path string) ([]record, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []record
	for n, line := range bytes.Split(text, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, n+1, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// replace puts new records of a promise in the place of its old ones of the same form.
func replace(all []record, id string, long bool, by []record) []record {
	all = slices.DeleteFunc(slices.Clone(all), func(r record) bool { return r.Promise == id && r.Long == long })
	all = append(all, by...)
	place := func(r record) int {
		return slices.IndexFunc(promises, func(p promised) bool { return p.id == r.Promise })
	}
	slices.SortStableFunc(all, func(a, b record) int { return place(a) - place(b) })
	return all
}

func writeRecords(path string, all []record) error {
	var out bytes.Buffer
	for _, r := range all {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		out.Write(append(line, '\n'))
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}
