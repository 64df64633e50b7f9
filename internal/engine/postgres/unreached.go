package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// unreached is why there is no connection, in one sentence that says what, where, and how to
// mend it, and no password.
type unreached struct {
	text    string
	refuses bool // every host that was asked: waiting mends nothing
	cause   error
}

func (u *unreached) Error() string { return u.text }

func (u *unreached) Unwrap() []error { return []error{errReach, u.cause} }

// newUnreached tells of attempts: the n-th error is that of the n-th host. lonely is the one of
// which is known that it waits for a standby, nil if there is none.
func newUnreached(hosts []*pgconn.Config, all []error, lonely *pgconn.Config) *unreached {
	u := &unreached{refuses: true, cause: errors.Join(all...)}
	var said []string
	start := networkFails(u.cause)
	for i, err := range all {
		to := hosts[i%len(hosts)]
		at := addressOf(to)
		text, refuses := refused(at, to, err)
		// A server that let us in, as a standby does, or one of a name's that is away, may do better
		// later.
		letIn := errors.Is(err, errLetIn)
		refuses = refuses && !letIn && !isAway(err)
		u.refuses = u.refuses && refuses
		start = start && !letIn && to != lonely // else one runs
		switch {
		case to == lonely:
			text = lonelyText(to)
		case text == "":
			text = at + ": " + innermost(err)
		}
		said = append(said, text)
	}
	u.text = strings.Join(said, ", ")
	if !u.refuses && start {
		u.text += "; start PostgreSQL there, or correct host and port in its url"
	}
	return u
}

func addressOf(to *pgconn.Config) string {
	return net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port)))
}

// refused says how to mend that a server does not let somebody in.
func refused(at string, to *pgconn.Config, err error) (text string, refuses bool) {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return "", false
	}
	switch {
	case said.Code == "28P01":
		return fmt.Sprintf("%s does not take the password of the role %q; put the right one into its url", at, to.User), true
	case strings.HasPrefix(said.Code, "28"):
		return fmt.Sprintf("%s does not let the role %q in (%s); make it there with createuser, allow it in pg_hba.conf, or name another in its url", at, to.User, said.Message), true
	case said.Code == "3D000":
		return fmt.Sprintf("%s has no database %q; make it there with createdb -O %s %s, or name another in its url", at, to.Database, to.User, to.Database), true
	}
	return "", false
}

// errLetIn is of a server that has let us in, and was not what was looked for: not the primary, or
// one whose commits nobody confirms.
var errLetIn = errors.New("it let us in")

// isAway tells whether a network is among the reasons.
func isAway(err error) bool {
	var network *net.OpError
	var name *net.DNSError
	return errors.As(err, &network) || errors.As(err, &name) || errors.Is(err, context.DeadlineExceeded)
}

// innermost is the reason of a failure without the stories around it.
func innermost(err error) string {
	var said *pgconn.PgError
	var network *net.OpError
	var name *net.DNSError
	var number syscall.Errno
	switch {
	case errors.As(err, &said):
		return said.Message
	case errors.As(err, &name):
		return "its name is not known (" + name.Err + ")"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &number):
		return number.Error()
	case errors.As(err, &network):
		return network.Err.Error()
	}
	var connecting *pgconn.ConnectError
	if errors.As(err, &connecting) {
		err = connecting.Unwrap()
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

func networkFails(err error) bool {
	var said *pgconn.PgError
	var network *net.OpError
	return !errors.As(err, &said) && (errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded))
}

// missed keeps why there is no connection, and tells of the first time. Whose ctx is over did not try
// for long enough to know.
func (p *pool) missed(ctx context.Context, u *unreached) error {
	if p.reached.Load() { // it was good once, and may be again: passwords and hosts are changed while nodes run
		u.refuses = false
	}
	if ctx.Err() != nil {
		return u
	}
	var why error = u
	if p.down.Swap(&why) == nil && !p.opt.Brief && !u.refuses {
		p.opt.Log.Warn("waiting for the database", "err", u.text)
	}
	return u
}
