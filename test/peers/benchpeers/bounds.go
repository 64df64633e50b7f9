package main

import (
	_ "embed"
	"strings"
)

// boundsText is written by hand: under a heading for each measurement, what bounds it
// where Martlet is not twice as fast. The report takes what applies.
//
//go:embed bounds.md
var boundsText string

// bound returns what is written about the measurement with the given title. A heading
// without ", cold" or ", warm" speaks of both.
func bound(title string) string {
	both := strings.TrimSuffix(strings.TrimSuffix(title, ", cold"), ", warm")
	notes := bounds(boundsText)
	if why := notes[title]; why != "" {
		return why
	}
	return notes[both]
}

// unexplained returns the titles of what is below the goal without a word about it.
func unexplained(all []*row, servers []string) []string {
	var out []string
	for _, r := range all {
		if ratio, ok := r.ratio(servers); ok && ratio.value < goal && bound(r.title) == "" {
			out = append(out, r.title)
		}
	}
	return out
}

func bounds(text string) map[string]string {
	out := map[string]string{}
	heading := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "## "); ok {
			heading = title
			continue
		}
		if heading != "" && line != "" {
			out[heading] = strings.TrimSpace(out[heading] + " " + line)
		}
	}
	return out
}
