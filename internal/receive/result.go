package receive

import "github.com/martlet-mail/martlet/internal/fault"

// Result says what became of one recipient.
type Result struct {
	// Err is nil if the message is stored or queued, durably. Kinds: NotFound,
	// OverQuota, TooLarge (the alias is), Invalid (the message runs in a circle), and
	// the temporary ones.
	Err error
	// Status is the enhanced status code, or "" where the kind of Err says all.
	Status string
}

var errLoop = fault.New(fault.Invalid, "message runs in a circle: it has too many Received fields")

// replies are the SMTP codes of failures (RFC 5321, 4.2.3; RFC 3463).
var replies = map[fault.Kind]struct {
	code   int
	status string
}{
	fault.NotFound:    {550, "5.1.1"},
	fault.Denied:      {550, "5.7.1"},
	fault.Unsupported: {550, "5.3.3"},
	fault.Invalid:     {554, "5.6.0"},
	fault.TooLarge:    {552, "5.3.4"},
	fault.OverQuota:   {452, "4.2.2"},
	fault.Limited:     {451, "4.7.0"},
	fault.Busy:        {450, "4.2.1"},
	fault.Unavailable: {452, "4.3.1"},
}

// passing is the error of something that was done here with a message. Whatever a failure says,
// nobody is refused for good because of the state that this server is in: a record that a newer
// program wrote while this one slept, an account that the directory has and whose data a
// database has lost. Only a message that is too large is so everywhere.
func passing(err error) error {
	if kind := fault.Of(err); err == nil || kind.Temporary() || kind == fault.TooLarge {
		return err
	}
	return fault.Wrap(fault.Unavailable, "the message cannot be taken in here just now, try again later", err)
}

// Reply returns the code, enhanced code and text that SMTP has for the result.
func (r Result) Reply() (code int, status, text string) {
	if r.Err == nil {
		return 250, "2.1.5", "delivered"
	}
	reply, ok := replies[fault.Of(r.Err)]
	if !ok {
		reply.code, reply.status = 451, "4.3.0"
	}
	if r.Status != "" {
		reply.status = r.Status
	}
	return reply.code, reply.status, fault.Say(r.Err)
}
