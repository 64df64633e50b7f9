// Command summary reads the output of go test -json, shows what failed and what was
// skipped, and closes with the number of tests: "N passed, N failed, N skipped". It
// exits with 1 if anything failed or nothing ran.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

type summary struct {
	output                  map[string][]string // what an unfinished or failed test printed
	passed, failed, skipped int
	skips                   []string
	badPackages             []string
}

func main() {
	s := summary{output: map[string][]string{}}
	if err := s.read(os.Stdin); err != nil {
		fmt.Println("summary:", err)
		os.Exit(1)
	}
	slices.Sort(s.skips)
	for _, line := range s.skips {
		fmt.Println("skipped:", line)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
	if s.failed > 0 || len(s.badPackages) > 0 || s.passed == 0 {
		os.Exit(1)
	}
}

func (s *summary) read(r io.Reader) error {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			fmt.Println(in.Text()) // a compiler's complaint
			continue
		}
		s.take(e)
	}
	return in.Err()
}

func (s *summary) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		s.output[key] = append(s.output[key], e.Output)
	case "pass":
		if e.Test == "" {
			fmt.Printf("ok    %-45s %6.1fs\n", short(e.Package), e.Elapsed)
		} else {
			s.passed++
		}
		delete(s.output, key)
	case "skip":
		if e.Test != "" {
			s.skipped++
			s.skips = append(s.skips, short(e.Package)+" "+e.Test+": "+reason(s.output[key]))
		}
		delete(s.output, key)
	case "fail", "build-fail":
		if e.Test != "" {
			s.failed++
		} else {
			s.badPackages = append(s.badPackages, e.Package)
		}
		fmt.Printf("FAIL  %s %s\n%s", short(e.Package), e.Test, strings.Join(s.output[key], ""))
		delete(s.output, key)
	}
}

func short(pkg string) string {
	_, after, _ := strings.Cut(pkg, "/martlet/")
	return after
}

// reason is what a skipped test said of itself.
func reason(lines []string) string {
	for _, l := range lines {
		if i := strings.Index(l, "_test.go:"); i >= 0 {
			return strings.TrimSpace(l[i:])
		}
	}
	return ""
}
