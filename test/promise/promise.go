// Package promise notes what the tests of reliability have shown. A test that proves one
// of the promises of docs/reliability.md asks Times how often it is to try, and says with
// Kept what it counted; the page is written from these notes.
//
// It proves nothing itself: a test that fails says so through its testing.TB, and then
// keeps nothing.
//
// MARTLET_LONG=1 asks for the long form of all tests. MARTLET_R4=500 asks for 500 trials
// of promise R4. MARTLET_FIGURES names a file to which each Kept adds a line of JSON.
package promise

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Times returns how many trials of a promise a test is to make.
func Times(t testing.TB, id string, short, long int) int {
	t.Helper()
	name := "MARTLET_" + id
	if text := os.Getenv(name); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("%s=%s: it must be a number of trials", name, text)
		}
		return n
	}
	if Long() {
		return long
	}
	return short
}

// Long reports whether the long form of the tests was asked for.
func Long() bool { return os.Getenv("MARTLET_LONG") != "" }

// Note is one line of the file of figures.
type Note struct {
	Promise string   `json:"promise"`
	Test    string   `json:"test"`
	Long    bool     `json:"long"`
	Figures []Figure `json:"figures"`
}

// Figure is one number, or one word, that a test has found.
type Figure struct {
	Name  string `json:"name"`
	Value any    `json:"value"`
}

var writing sync.Mutex

// Kept notes that a promise was kept, with names and values in turn: Kept(t, "R1",
// "kills", 50, "lost", 0). It notes nothing for a test that has failed.
func Kept(t testing.TB, id string, figures ...any) {
	t.Helper()
	if len(figures)%2 != 0 {
		t.Fatalf("promise %s: a figure without its value", id)
	}
	if t.Failed() {
		return
	}
	note := Note{Promise: id, Test: t.Name(), Long: Long()}
	var words []string
	for i := 0; i < len(figures); i += 2 {
		name := fmt.Sprint(figures[i])
		note.Figures = append(note.Figures, Figure{name, figures[i+1]})
		words = append(words, fmt.Sprintf("%s %v", name, figures[i+1]))
	}
	t.Logf("%s: %s", id, strings.Join(words, ", "))
	if err := note.write(os.Getenv("MARTLET_FIGURES")); err != nil {
		t.Errorf("MARTLET_FIGURES: %v", err)
	}
}

func (n Note) write(path string) error {
	if path == "" {
		return nil
	}
	line, err := json.Marshal(n)
	if err != nil {
		return err
	}
	writing.Lock()
	defer writing.Unlock()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	return f.Close()
}
