package imapd

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

var limitCode = regexp.MustCompile(`\[MESSAGELIMIT 7 (\d+)\]`)

// A client that goes on below what it is told, as RFC 9738, 3.1 has it, has dealt with
// each message once in the end, whatever the set.
func TestLimitIsWalkedThrough(t *testing.T) {
	w := newWorld(t)
	w.imap.opt.MessageLimit = 7
	w.fillBox("INBOX", "100")
	if _, err := w.alice.Expunge(w.ctx, w.picture("INBOX").Mailbox().ID, uidSet("5:11,20,22,24,60:75,99"), false); err != nil {
		t.Fatal(err)
	}
	c := w.login("A", "")
	c.command(t, "SELECT INBOX")
	walk := func(command, line string) (rounds int, seen []string) {
		took := regexp.MustCompile(line)
		for upTo := "100"; ; rounds++ {
			lines, tagged := c.command(t, fmt.Sprintf(command, upTo))
			if !strings.HasPrefix(tagged, "zz OK") {
				t.Fatal(tagged)
			}
			for _, l := range lines {
				if m := took.FindStringSubmatch(l); m != nil {
					seen = append(seen, strings.Fields(m[1])...)
				}
			}
			m := limitCode.FindStringSubmatch(tagged)
			if m == nil {
				return rounds, seen
			}
			if len(seen)%7 != 0 {
				t.Fatalf("%s: %d after %d rounds", command, len(seen), rounds+1)
			}
			var lowest int
			fmt.Sscan(m[1], &lowest)
			upTo = fmt.Sprint(lowest - 1)
		}
	}
	for command, line := range map[string]string{
		"UID FETCH 1:%s (FLAGS)":                                      `^\* \d+ FETCH \(UID (\d+) FLAGS \(`,
		"UID SEARCH UID 1:%s":                                         `^\* SEARCH(( \d+)*)$`,
		"UID STORE 1:%s +FLAGS (\\Flagged)":                           `^\* \d+ FETCH \(UID (\d+) FLAGS \(\\Flagged \\Recent\)\)`,
		"UID FETCH 1:%s (BODY.PEEK[HEADER])":                          `^\* \d+ FETCH \(UID (\d+) BODY\[HEADER\] `,
		"UID SEARCH UID 1:100 SUBJECT filling UIDBEFORE 101 UID 1:%s": `^\* SEARCH(( \d+)*)$`,
	} {
		rounds, seen := walk(command, line)
		count := map[string]int{}
		for _, uid := range seen {
			count[uid]++
		}
		if rounds != 10 || len(seen) != 73 || len(count) != 73 {
			t.Errorf("%s: %d rounds, %d answers, %d messages", command, rounds, len(seen), len(count))
		}
	}
	// The same command again and again, for what has been moved is gone (RFC 9738, 3.1).
	for rounds := 0; ; rounds++ {
		_, tagged := c.command(t, "UID MOVE 1:* Archive")
		if limitCode.FindString(tagged) == "" {
			if n := w.picture("Archive").Len(); n != 73 || rounds != 10 {
				t.Errorf("%d moved in %d rounds", n, rounds)
			}
			break
		}
	}
}
