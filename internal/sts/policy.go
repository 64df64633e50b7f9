package sts

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Mode says what follows if a host does not fulfil a policy (RFC 8461, 5).
type Mode string

const (
	Enforce Mode = "enforce" // no mail to it
	Testing Mode = "testing" // mail goes, and is reported
	None    Mode = "none"    // there is no policy any more
)

// Bounds of what a policy host may say.
const (
	maxPolicy  = 64 << 10 // bytes of a policy (RFC 8461, 3.3)
	maxMaxAge  = 31557600 * time.Second
	maxMX      = 500 // patterns that are kept
	maxIDBytes = 32
)

// Policy is one MTA-STS policy (RFC 8461, 3.2).
type Policy struct {
	Mode   Mode
	MaxAge time.Duration // at most a year
	MX     []string      // patterns, in lower case
}

// Matches tells whether a mail host is one of the policy's (RFC 8461, 4.1): "*." stands
// for exactly one label.
func (p *Policy) Matches(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return slices.ContainsFunc(p.MX, func(pattern string) bool {
		if parent, ok := strings.CutPrefix(pattern, "*."); ok {
			label, rest, found := strings.Cut(host, ".")
			return found && label != "" && rest == parent
		}
		return pattern == host
	})
}

// Lines are the policy as its domain publishes it, a field each, for reports.
func (p *Policy) Lines() []string {
	lines := []string{"version: STSv1", "mode: " + string(p.Mode)}
	for _, mx := range p.MX {
		lines = append(lines, "mx: "+mx)
	}
	return append(lines, "max_age: "+strconv.FormatInt(int64(p.MaxAge/time.Second), 10))
}

// Text is the policy as a policy host gives it.
func (p *Policy) Text() string { return strings.Join(p.Lines(), "\r\n") + "\r\n" }

// ParsePolicy reads what a policy host gave (RFC 8461, 3.2). Fields that are not known
// are passed over, and so are repetitions of all but mx. The fault is of kind Invalid.
func ParsePolicy(text []byte) (*Policy, error) {
	if len(text) > maxPolicy {
		return nil, fault.Newf(fault.Invalid, "the policy has more than %d bytes", maxPolicy)
	}
	if !utf8.Valid(text) {
		return nil, fault.New(fault.Invalid, "the policy is not valid UTF-8")
	}
	p := &Policy{}
	seen := map[string]bool{}
	for line := range strings.SplitSeq(string(text), "\n") {
		line = strings.TrimRight(strings.TrimSuffix(line, "\r"), " \t")
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !fieldName(name) {
			return nil, fault.Newf(fault.Invalid, "%.80q is no field of a policy", line)
		}
		if seen[name] && name != "mx" {
			continue
		}
		seen[name] = true
		if err := p.field(name, strings.TrimLeft(value, " \t")); err != nil {
			return nil, err
		}
	}
	switch {
	case !seen["version"]:
		return nil, fault.New(fault.Invalid, "the policy has no version")
	case p.Mode == "":
		return nil, fault.New(fault.Invalid, "the policy has no mode")
	case !seen["max_age"]:
		return nil, fault.New(fault.Invalid, "the policy has no max_age")
	case len(p.MX) == 0 && p.Mode != None:
		return nil, fault.New(fault.Invalid, "the policy names no mail host")
	}
	return p, nil
}

func (p *Policy) field(name, value string) error {
	switch name {
	case "version":
		if value != "STSv1" {
			return fault.Newf(fault.Invalid, "the policy is of version %.40q", value)
		}
	case "mode":
		if p.Mode = Mode(strings.Clone(value)); p.Mode != Enforce && p.Mode != Testing && p.Mode != None {
			return fault.Newf(fault.Invalid, "the policy has the mode %.40q", value)
		}
	case "max_age":
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil || len(value) > 10 {
			return fault.Newf(fault.Invalid, "the policy has the max_age %.40q", value)
		}
		p.MaxAge = time.Duration(min(n, uint64(maxMaxAge/time.Second))) * time.Second
	case "mx":
		pattern := strings.ToLower(strings.TrimSuffix(value, "."))
		if !hostPattern(pattern) {
			return fault.Newf(fault.Invalid, "the policy has the mail host %.80q", value)
		}
		if len(p.MX) < maxMX {
			p.MX = append(p.MX, strings.Clone(pattern)) // not the whole text, too
		}
	}
	return nil
}

func fieldName(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for i := range len(s) {
		if !alnum(s[i]) && (i == 0 || strings.IndexByte("_-.", s[i]) < 0) {
			return false
		}
	}
	return true
}

// hostPattern checks ["*."] Domain. Names are A-labels.
func hostPattern(s string) bool {
	s = strings.TrimPrefix(s, "*.")
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			if !alnum(label[i]) && label[i] != '-' && label[i] != '_' {
				return false
			}
		}
	}
	return true
}

func alnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// ParseTXT reads the records of _mta-sts.DOMAIN and returns the id of the policy there
// is; ok is false if there is none (RFC 8461, 3.1).
func ParseTXT(records []string) (id string, ok bool) {
	found := ""
	n := 0
	for _, r := range records {
		if version, _, _ := strings.Cut(r, ";"); strings.TrimRight(version, " \t") == "v=STSv1" && strings.Contains(r, ";") {
			found = r
			n++
		}
	}
	if n != 1 {
		return "", false
	}
	for i, field := range strings.Split(found, ";") {
		field = strings.Trim(field, " \t")
		if i == 0 || field == "" {
			continue
		}
		name, value, cut := strings.Cut(field, "=")
		if !cut || !fieldName(name) || value == "" || strings.ContainsFunc(value, notInTXT) {
			return "", false
		}
		if name != "id" || id != "" {
			continue
		}
		if len(value) > maxIDBytes || strings.ContainsFunc(value, func(c rune) bool { return c > 'z' || !alnum(byte(c)) }) {
			return "", false
		}
		id = value
	}
	return strings.Clone(id), id != ""
}

// notInTXT tells what cannot stand in a field's value.
func notInTXT(c rune) bool { return c <= ' ' || c >= 0x7f || c == '=' }
