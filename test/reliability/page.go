package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// The parts of the page that are written anew lie between marks.
const (
	figuresMark = "figures"
	attacksMark = "attacks"
)

func writePage(known []record) error {
	text, err := os.ReadFile(pageFile)
	if err != nil {
		return err
	}
	tests, err := attackTests(".")
	if err != nil {
		return err
	}
	out, err := render(string(text), known, tests)
	if err != nil {
		return err
	}
	return os.WriteFile(pageFile, []byte(out), 0o644)
}

// render puts the tables into the page.
func render(page string, known []record, tests map[int][]string) (string, error) {
	page, err := between(page, figuresMark, figureTable(known))
	if err != nil {
		return "", err
	}
	return between(page, attacksMark, attackTable(tests))
}

func between(page, mark, text string) (string, error) {
	open, end := "<!-- "+mark+" -->\n", "<!-- /"+mark+" -->"
	before, rest, ok := strings.Cut(page, open)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", errors.New(pageFile + " has no place for its " + mark)
	}
	return before + open + text + end + after, nil
}

// figureTable is the table of the promises.
func figureTable(known []record) string {
	var b strings.Builder
	b.WriteString("| | Promise | Short form | Long form | Command |\n|---|---|---|---|---|\n")
	for _, p := range promises {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | `make reliability ONLY=%s` |\n", p.id, p.says, cell(known, p.id, false), cell(known, p.id, true), p.id)
	}
	return b.String()
}

// cell is what the tests of one promise kept.
func cell(known []record, id string, long bool) string {
	var lines []string
	when := ""
	for _, r := range known {
		if r.Promise != id || r.Long != long {
			continue
		}
		var words []string
		for _, f := range r.Figures {
			words = append(words, fmt.Sprintf("%s %s", f.Name, number(f.Value)))
		}
		lines = append(lines, strings.Join(words, ", "))
		when = fmt.Sprintf(" (%s, %d s)", r.When, r.Seconds)
	}
	return strings.ReplaceAll(strings.Join(lines, "; ")+when, "|", "\\|")
}

// number writes a figure with commas between thousands.
func number(v any) string {
	f, ok := v.(float64)
	if !ok || f != float64(int64(f)) {
		return fmt.Sprint(v)
	}
	text := fmt.Sprint(int64(f))
	sign := ""
	if f < 0 {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}
