package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// statement is one that each connection prepares when it first needs it.
type statement struct{ name, sql string }

// conn is a connection to a server, for one goroutine at a time. Statements are gathered,
// sent together and answered together: one round trip.
//
// It speaks the protocol itself (pgconn makes the connection): nothing here may ever ask
// the server to cancel a statement, since of a commit that would end the wait for the
// replica.
type conn struct {
	wire     net.Conn
	front    *pgproto3.Frontend
	slot     int                 // of its pool
	process  uint32              // that serves it
	host     *pgconn.Config      // by which it was reached
	age      uint64              // the pool's generation when it was made
	prepared map[*statement]bool // false: perhaps
	fresh    []*statement        // prepared by what is being sent

	out     []byte // to be sent
	opened  int    // where the message begins that is being written
	sent    int    // statements in out
	hurries bool   // the server ends transactions that go on with nothing
	warned  bool   // the server does not vouch for the last commit
	broken  error  // why the connection is of no use any more

	heard func(payload string) // of notifications
	alive func() bool          // whether a late answer may still come; nil: no
	limit time.Duration        // of what is being answered
}

// refusal is an error that the server has answered with; the transaction is rolled back, and
// the connection is as good as before.
type refusal struct{ code, message string }

func (r *refusal) Error() string { return r.code + " " + r.message }

// errBroken is the cause of all that a connection did not carry out to its end.
var errBroken = errors.New("the connection to the database broke")

// bind begins a call of a statement with so many parameters.
func (c *conn) bind(st *statement, params int) {
	if sure, ok := c.prepared[st]; !sure {
		if ok {
			c.open('C')
			c.out = append(c.out, 'S')
			c.text(st.name)
			c.shut()
		}
		c.prepared[st] = true
		c.fresh = append(c.fresh, st)
		c.open('P')
		c.text(st.name)
		c.text(st.sql)
		c.out = append(c.out, 0, 0)
		c.shut()
	}
	c.open('B')
	c.out = append(c.out, 0) // the portal without a name
	c.text(st.name)
	c.out = append(c.out, 0, 1, 0, 1) // all parameters are binary
	c.out = binary.BigEndian.AppendUint16(c.out, uint16(params))
}

// execute ends what bind began.
func (c *conn) execute() {
	c.out = append(c.out, 0, 1, 0, 1) // all results are binary
	c.shut()
	c.open('E')
	c.out = append(c.out, 0, 0, 0, 0, 0)
	c.shut()
	c.sent++
}

func (c *conn) open(kind byte) {
	c.out = append(c.out, kind, 0, 0, 0, 0)
	c.opened = len(c.out) - 4
}

func (c *conn) shut() {
	binary.BigEndian.PutUint32(c.out[c.opened:], uint32(len(c.out)-c.opened))
}

func (c *conn) text(s string) { c.out = append(append(c.out, s...), 0) }

// int64 and the like write one parameter each.
func (c *conn) int64(n int64) {
	c.out = append(c.out, 0, 0, 0, 8)
	c.out = binary.BigEndian.AppendUint64(c.out, uint64(n))
}

func (c *conn) bytes(b []byte) {
	if b == nil {
		c.null()
		return
	}
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(len(b)))
	c.out = append(c.out, b...)
}

func (c *conn) string(s string) {
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(len(s)))
	c.out = append(c.out, s...)
}

func (c *conn) null() { c.out = append(c.out, 0xff, 0xff, 0xff, 0xff) }

// Type numbers of elements of arrays.
const (
	typeBytea  = 17
	typeBigint = 20
)

// array writes a parameter of n elements, each of which add appends.
func (c *conn) array(element uint32, n int, add func(i int)) {
	at := len(c.out)
	c.out = append(c.out, 0, 0, 0, 0)
	dimensions := uint32(1)
	if n == 0 {
		dimensions = 0
	}
	c.out = binary.BigEndian.AppendUint32(c.out, dimensions)
	c.out = binary.BigEndian.AppendUint32(c.out, 0)
	c.out = binary.BigEndian.AppendUint32(c.out, element)
	if n > 0 {
		c.out = binary.BigEndian.AppendUint32(c.out, uint32(n))
		c.out = binary.BigEndian.AppendUint32(c.out, 1)
	}
	for i := range n {
		add(i)
	}
	binary.BigEndian.PutUint32(c.out[at:], uint32(len(c.out)-at-4))
}

// run sends what was gathered and reads all answers, within a time. each is called for
// each row, with the number of its statement and values that are valid during the call.
// counts are the rows that each statement returned or changed. An error is a *refusal, or
// wraps errBroken: then nobody knows what the server has done.
func (c *conn) run(limit time.Duration, each func(i int, row [][]byte) error) (counts []int64, err error) {
	c.open('S')
	c.shut()
	if err := c.flush(limit); err != nil {
		return nil, err
	}
	counts = make([]int64, 0, c.sent)
	c.sent, c.warned = 0, false
	var failed error
	for {
		m, err := c.receive()
		if err != nil {
			return counts, err
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			if failed == nil && each != nil {
				failed = each(len(counts), m.Values)
			}
		case *pgproto3.CommandComplete:
			counts = append(counts, countOf(m.CommandTag))
		case *pgproto3.ErrorResponse:
			failed = &refusal{m.Code, m.Message}
			if m.Severity != "ERROR" && m.SeverityUnlocalized != "ERROR" {
				return counts, c.breaks(failed)
			}
			for _, st := range c.fresh { // what came after the error was not
				c.prepared[st] = false
			}
		case *pgproto3.ReadyForQuery:
			c.fresh = c.fresh[:0]
			if m.TxStatus == 'E' {
				if _, err := c.script(limit, "ROLLBACK"); err != nil {
					return counts, err
				}
			}
			return counts, failed
		}
	}
}

func (c *conn) flush(limit time.Duration) error {
	if c.broken != nil {
		return c.broken
	}
	c.limit = limit
	err := c.wire.SetDeadline(time.Now().Add(limit))
	if err == nil {
		_, err = c.wire.Write(c.out)
	}
	if c.out = c.out[:0]; cap(c.out) > maxBuffer {
		c.out = nil
	}
	if err != nil {
		return c.breaks(err)
	}
	return nil
}

// maxBuffer is what a connection keeps for what it sends.
const maxBuffer = 1 << 20

// receive returns the next answer; what the server says beside its answers is heeded here.
func (c *conn) receive() (pgproto3.BackendMessage, error) {
	for {
		m, err := c.front.Receive()
		var late net.Error
		if c.alive != nil && errors.As(err, &late) && late.Timeout() && c.alive() {
			err = c.wire.SetDeadline(time.Now().Add(c.limit))
			if err == nil {
				continue
			}
		}
		if err != nil {
			return nil, c.breaks(err)
		}
		switch n := m.(type) {
		case *pgproto3.NoticeResponse:
			// Of a commit: the wait for the replica was ended from outside.
			c.warned = c.warned || n.SeverityUnlocalized == "WARNING" || n.Severity == "WARNING"
		case *pgproto3.NotificationResponse:
			if c.heard != nil {
				c.heard(n.Payload)
			}
			return m, nil
		case *pgproto3.ParameterStatus:
		default:
			return m, nil
		}
	}
}

func (c *conn) breaks(cause error) error {
	if c.broken == nil {
		c.broken = fmt.Errorf("%w: %w", errBroken, cause)
		_ = c.wire.Close()
	}
	return c.broken
}

// countOf returns the number at the end of a command's tag.
func countOf(tag []byte) (n int64) {
	for i, b := range tag {
		if b == ' ' {
			n = 0
			for _, d := range tag[i+1:] {
				if d < '0' || d > '9' {
					break
				}
				n = n*10 + int64(d-'0')
			}
		}
	}
	return n
}

// number returns a bigint or int of a row; 0 for NULL.
func number(b []byte) int64 {
	switch len(b) {
	case 8:
		return int64(binary.BigEndian.Uint64(b))
	case 4:
		return int64(int32(binary.BigEndian.Uint32(b)))
	}
	return 0
}

// script runs statements of their own, each in its own transaction, and returns what
// became of each. It is for those without parameters that run once.
func (c *conn) script(limit time.Duration, statements ...string) ([]error, error) {
	for _, sql := range statements {
		c.open('Q')
		c.text(sql)
		c.shut()
	}
	if err := c.flush(limit); err != nil {
		return nil, err
	}
	list := make([]error, 0, len(statements))
	var failed error
	for len(list) < len(statements) {
		m, err := c.receive()
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			failed = &refusal{m.Code, m.Message}
			if m.SeverityUnlocalized == "FATAL" || m.SeverityUnlocalized == "PANIC" {
				return nil, c.breaks(failed)
			}
		case *pgproto3.ReadyForQuery:
			list = append(list, failed)
			failed = nil
		}
	}
	return list, nil
}
