package provider

import (
	"bufio"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// toServer hands on what the client says: lines, and the literals that end some of them.
func (s *session) toServer() {
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return
		}
		tag, rest, isCommand := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		if isCommand && s.refused(tag, rest) {
			continue
		}
		if _, err := io.WriteString(s.back, line); err != nil {
			return
		}
		for {
			n, _, ok := announced(line)
			if !ok {
				break
			}
			if _, err := io.CopyN(s.back, s.in, n); err != nil {
				return
			}
			if line, err = s.in.ReadString('\n'); err != nil {
				return
			}
			if _, err := io.WriteString(s.back, line); err != nil {
				return
			}
		}
	}
}

var fetchBody = regexp.MustCompile(`(?i)^UID FETCH ([0-9:,*]+) \(.*BODY`)

// refused answers a command in the server's place.
func (s *session) refused(tag, rest string) bool {
	if s.p.throttles() {
		s.write(tag + " NO [THROTTLED] Request is throttled. Suggested Backoff Time: 1000 milliseconds\r\n")
		return true
	}
	if s.asked(tag, rest) {
		return true
	}
	if m := fetchBody.FindStringSubmatch(rest); m != nil && s.p.opt.NoBody != nil && s.unreadable(m[1]) {
		s.write(tag + " NO [UNAVAILABLE-BODY] Some messages could not be FETCHed (Failure)\r\n")
		return true
	}
	return false
}

func (s *session) unreadable(set string) bool {
	for _, part := range strings.Split(set, ",") {
		a, b, ranged := strings.Cut(part, ":")
		from, _ := strconv.Atoi(a)
		to := from
		if ranged {
			to, _ = strconv.Atoi(b)
		}
		for u := from; u <= to && u < from+100_000; u++ {
			if s.p.opt.NoBody(strconv.Itoa(u)) {
				return true
			}
		}
	}
	return false
}

var (
	esearch = regexp.MustCompile(`^(\* ESEARCH \(TAG "[^"]*"\) UID) ALL .*\r\n`)
	size    = regexp.MustCompile(`RFC822\.SIZE ([0-9]+)`)
)

// toClient hands on what the server says, changed where the provider lies.
func (s *session) toClient() {
	r := bufio.NewReaderSize(s.back, 64<<10)
	within := false // a response that has a literal
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if !within && s.p.throttles() {
			s.write("* BYE [THROTTLED] Request is throttled. Suggested Backoff Time: 1000 milliseconds\r\n")
			return
		}
		_, _, within = announced(line)
		if s.p.opt.NoEnabled && strings.HasPrefix(line, "* ENABLED") {
			continue
		}
		if strings.HasPrefix(line, "* CAPABILITY ") {
			line = "* CAPABILITY " + s.p.visible(strings.TrimPrefix(line, "* CAPABILITY ")) + "\r\n"
		}
		if s.p.opt.CountOnly {
			line = esearch.ReplaceAllString(line, "$1 COUNT 30\r\n")
		}
		if s.p.opt.Short != nil && strings.HasPrefix(line, "* SEARCH ") && s.p.opt.Short() {
			line = "* SEARCH 1\r\n"
		}
		if d := s.p.opt.LieSizes; d != 0 {
			line = size.ReplaceAllStringFunc(line, func(m string) string {
				n, _ := strconv.ParseInt(strings.Fields(m)[1], 10, 64)
				return "RFC822.SIZE " + strconv.FormatInt(max(n+d, 0), 10)
			})
		}
		if s.write(line) != nil {
			return
		}
		if n, _, ok := announced(line); ok {
			if _, err := io.CopyN(s, r, n); err != nil {
				return
			}
		}
	}
}
