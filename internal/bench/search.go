package bench

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// question is a scenario of one request that has one answer about the large mailbox.
type question struct {
	name, about string
	command     string                 // may have a place for the number of a message
	extension   string                 // capability it needs, "" for none
	most        bool                   // the answer names every message
	hits        func(messages int) int // how many it names otherwise
}

// questions are asked in this order. Those for text ask for another message each time,
// so that no server can have the answer ready; the text stands in that message alone.
func questions() []question {
	one := func(int) int { return 1 }
	return []question{
		{name: "search-unseen", command: "UID SEARCH UNSEEN", hits: tenth},
		{name: "search-subject", about: "UID SEARCH SUBJECT, of one message", command: `UID SEARCH SUBJECT "Note %d on"`, hits: one},
		{name: "search-text", about: "UID SEARCH TEXT, of one message", command: `UID SEARCH TEXT "No. %d of large"`, hits: one},
		{name: "sort-date", command: "UID SORT (REVERSE DATE) UTF-8 ALL", extension: "SORT", most: true},
		{name: "sort-subject", command: "UID SORT (SUBJECT) UTF-8 ALL", extension: "SORT", most: true},
		{name: "thread", command: "UID THREAD REFERENCES UTF-8 ALL", extension: "THREAD=REFERENCES", most: true},
	}
}

func (q question) scenario() scenario {
	if q.about == "" {
		q.about = q.command
	}
	return scenario{q.name, q.about, needIMAP, q.run}
}

func (q question) run(ctx context.Context, r *runner) error {
	c, err := r.large(ctx)
	if err != nil {
		return err
	}
	if q.extension != "" && !c.has(q.extension) {
		return fault.New(fault.Unsupported, "the server does not offer "+q.extension)
	}
	turn := 0
	return r.measure(ctx, request{name: q.name, times: r.opt.Repeat, ready: r.large,
		ask: func(c *imapConn) (int64, error) {
			turn++
			return q.ask(c, turn, r.opt.Messages)
		}})
}

// ask puts the question and looks at the size of the answer.
func (q question) ask(c *imapConn, turn, messages int) (int64, error) {
	command := q.command
	if strings.Contains(command, "%d") {
		command = fmt.Sprintf(command, (680+97*turn)%messages)
	}
	before, hits := c.read, 0
	err := c.do(command, func(line []byte) {
		if bytes.HasPrefix(line, []byte("* SEARCH")) {
			hits += bytes.Count(line, []byte(" ")) - 1
		}
	})
	read := c.read - before
	switch {
	case err != nil:
		return read, err
	case q.most && read < int64(messages):
		return read, fault.Newf(fault.Corrupt, "%s was answered with %d bytes only", command, read)
	case !q.most && hits != q.hits(messages):
		return read, fault.Newf(fault.Corrupt, "%s found %d of %d messages", command, hits, q.hits(messages))
	}
	return read, nil
}
