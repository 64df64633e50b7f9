package postgres

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Each database of a cluster of several has marks in its table meta: "group" is the name of the
// cluster and its number there, by which one that is taken for another is known, whatever its
// address; "group own" is drawn for itself alone. The home group has the latter of each group
// that is in the list, so that a database that was marked for a number it did not get may be
// added again, and one that did get it is not added twice.
const (
	groupMark = "group"
	ownMark   = "group own"
)

func ownMarkOf(id int64) string { return fmt.Sprintf("group own %d", id) }

func markFor(cluster []byte, id int64) string { return fmt.Sprintf("%x %d", cluster, id) }

// errOther is what a connection to the database of another group ends with.
var errOther = errors.New("the database is another one than its address was given for")

// isMarked returns what holds a mark against the one that a group must have.
func isMarked(want string) func(string) error {
	return func(mark string) error {
		if mark != want {
			return fmt.Errorf("%w: it is marked %q, not %q", errOther, mark, want)
		}
		return nil
	}
}

// isHome holds a mark against that of a home group, which has none before there is a second
// group. Once it has one, no other will do: that of another cluster ends with 0 as well.
func (e *Engine) isHome(mark string) error {
	if mark != "" && !strings.HasSuffix(mark, " 0") {
		return fmt.Errorf("%w: it is marked %q, and the home group's mark ends with 0", errOther, mark)
	}
	e.homeMark.Lock()
	defer e.homeMark.Unlock()
	if e.homeMark.known == "" {
		e.homeMark.known = mark
	}
	if mark != e.homeMark.known {
		return fmt.Errorf("%w: it is marked %q, and was marked %q", errOther, mark, e.homeMark.known)
	}
	return nil
}

// markOf returns the mark that a group of this cluster has.
func (e *Engine) markOf(ctx context.Context, id int64) (string, error) {
	read, err := e.ground(0).read(ctx, call{stMeta, []any{groupMark}})
	if err != nil {
		return "", err
	}
	if len(read) == 0 {
		return "", fault.New(fault.Corrupt, "the home group has a list of groups, and no mark")
	}
	if err := e.isHome(string(read[0][0])); err != nil { // no connection has been made since it got its mark
		return "", err
	}
	cluster, _, _ := strings.Cut(string(read[0][0]), " ")
	return cluster + " " + strconv.FormatInt(id, 10), nil
}

// draw draws a name that there is only once.
func (e *Engine) draw() ([]byte, error) {
	b := make([]byte, 16)
	_, err := io.ReadFull(e.opt.Rand, b)
	return b, err
}

// enlist makes the tables of a database and marks it as a group of this cluster. It returns
// the mark that is its own.
func (e *Engine) enlist(ctx context.Context, url string, id int64, cluster []byte) (own []byte, err error) {
	g, err := e.newMember("", url, id)
	if err != nil {
		return nil, err
	}
	defer g.close()
	if err := g.pool.prepare(ctx); err != nil {
		return nil, err
	}
	at, mark := &ground{id: id, pool: g.pool}, markFor(cluster, id)
	read, err := at.read(ctx, call{stMeta, []any{groupMark}})
	if err != nil {
		return nil, err
	}
	left, err := e.leftover(ctx, at, read, cluster)
	if err != nil {
		return nil, err
	}
	first := []call{{stMeta, []any{groupMark}}, {stMeta, []any{ownMark}}, {stAnyShard, nil}, {stAnyBlob, nil}}
	err = at.tx(ctx, first, func(read rows) (calls []call, err error) {
		of := read.of(0)
		marked := len(of) > 0 && string(of[0][0]) == mark
		switch {
		case !marked && len(of) > 0 && string(of[0][0]) != left:
			return nil, fault.New(fault.Exists, "the database is a group already, of this cluster or of another")
		case !marked && len(read.of(2))+len(read.of(3)) > 0:
			return nil, fault.New(fault.Exists, "the database holds a store of its own; a group begins empty")
		case len(read.of(1)) > 0:
			own = read.of(1)[0][0]
		default:
			if own, err = e.draw(); err != nil {
				return nil, err
			}
			calls = append(calls, call{stSetMeta, []any{ownMark, own}})
		}
		if !marked {
			calls = append(calls, call{stSetMeta, []any{groupMark, []byte(mark)}})
		}
		return calls, nil
	})
	return own, err
}

// leftover returns the mark of a database if it is of this cluster, and of a number that
// another database has got, or none: whoever was to add it did not get so far. Else "".
func (e *Engine) leftover(ctx context.Context, at *ground, marked [][][]byte, cluster []byte) (string, error) {
	if len(marked) == 0 {
		return "", nil
	}
	mark := string(marked[0][0])
	digits, found := strings.CutPrefix(mark, markFor(cluster, 0)[:2*len(cluster)+1])
	number, err := strconv.ParseInt(digits, 10, 64)
	if !found || err != nil || number <= 0 {
		return "", nil
	}
	own, err := at.read(ctx, call{stMeta, []any{ownMark}})
	if err != nil || len(own) == 0 {
		return "", err
	}
	// All that are listed so far are known: AddGroup has just looked.
	got, err := e.ground(0).read(ctx, call{stMeta, []any{ownMarkOf(number)}})
	if err != nil {
		return "", err
	}
	if e.member(number) != nil && (len(got) == 0 || bytes.Equal(got[0][0], own[0][0])) {
		return "", nil
	}
	return mark, nil
}

// cluster returns the name of the cluster, which it draws when it is first needed, and marks
// the home group.
func (e *Engine) cluster(ctx context.Context) (id []byte, err error) {
	look := []call{{stMeta, []any{groupMark}}}
	for id == nil && err == nil {
		err = e.ground(0).tx(ctx, look, func(read rows) ([]call, error) {
			if of := read.of(0); len(of) > 0 {
				text, _, _ := strings.Cut(string(of[0][0]), " ")
				var err error
				id, err = hex.DecodeString(text)
				return nil, err
			}
			drawn, err := e.draw() // another node may be faster: the next look tells
			return []call{{stAddMeta, []any{groupMark, []byte(markFor(drawn, 0))}}}, err
		})
	}
	return id, err
}
