package conf

import (
	"slices"
	"strings"
)

// Submission says what people who send mail may ask for, and how much they may send.
type Submission struct {
	// Longest time that a message may be held back until the sender's time of release
	// (FUTURERELEASE, RFC 4865); 0 does not offer it.
	FutureRelease Duration `toml:"future_release" default:"30d"`

	// Whether a sender may set a time for the delivery (DELIVERBY, RFC 2852).
	DeliverBy bool `toml:"deliver_by" default:"true"`

	// Shortest such time after which a message may go back.
	DeliverByMinimum Duration `toml:"deliver_by_minimum" default:"1m" min:"1s"`

	// Whether messages may have priorities (MT-PRIORITY, RFC 6710). Who has not logged in may
	// only lower his.
	Priority bool `toml:"priority" default:"true"`

	// Name of the policy that priorities follow: "MIXER", "STANAG4406", "NSEP", or "" for one
	// that has no name.
	PriorityPolicy string `toml:"priority_policy" default:"" oneof:"|MIXER|STANAG4406|NSEP"`

	// Whether a sender may have each recipient's copy come from an address of its own, such
	// as list+bob=example.net@example.org, so that what comes back names him (XVERP).
	VERP bool `toml:"verp" default:"true"`

	// Messages that an account may send in an hour from networks that are not trusted; 0 is
	// any number. What is over a limit is refused for now (452 4.7.1), so that a stolen
	// password cannot send a flood. Mail to recipients here counts, too. The same holds for
	// the next three.
	MessagesPerHour int `toml:"messages_per_hour" default:"0" min:"0" max:"100000000"`

	// Messages that an account may send in a day.
	MessagesPerDay int `toml:"messages_per_day" default:"5000" min:"0" max:"100000000"`

	// Recipients that an account may send to in an hour.
	RecipientsPerHour int `toml:"recipients_per_hour" default:"0" min:"0" max:"100000000"`

	// Recipients that an account may send to in a day.
	RecipientsPerDay int `toml:"recipients_per_day" default:"10000" min:"0" max:"100000000"`

	// What becomes of mail of an account to an address that a host has said does not exist,
	// after mail of the same account came back from there in the last 90 days: "lists"
	// refuses (550 5.1.1) messages that are sent with XVERP, as those of lists are, "all"
	// refuses any, "off" none. See "martlet queue bounced".
	Suppress string `toml:"suppress" default:"lists" oneof:"off|lists|all"`

	// Share of a limit, in percent, at which a warning is logged.
	Alarm int `toml:"alarm" default:"50" min:"1" max:"100"`

	// Other limits for some accounts, and limits that all accounts of a domain share.
	Limit []SubmissionLimit `toml:"limit"`
}

// SubmissionLimit is how much an account, or all accounts of a domain together, may send.
type SubmissionLimit struct {
	// Address of an account; a domain, for all accounts of it together; or "*" for each
	// account that has no limit of its own. It holds for trusted networks, too.
	For string `toml:"for" default:""`

	// Messages in an hour; 0 is any number, as for the others.
	MessagesPerHour int `toml:"messages_per_hour" default:"0" min:"0" max:"100000000"`

	// Messages in a day; 0 is any number.
	MessagesPerDay int `toml:"messages_per_day" default:"0" min:"0" max:"100000000"`

	// Recipients in an hour.
	RecipientsPerHour int `toml:"recipients_per_hour" default:"0" min:"0" max:"100000000"`

	// Recipients in a day.
	RecipientsPerDay int `toml:"recipients_per_day" default:"0" min:"0" max:"100000000"`
}

// Schedule says how mail for some domains is tried. What it leaves out is as in [queue].
type Schedule struct {
	// Domain of the recipients, such as "example.org"; ".example.org" is every domain below
	// it, "*" every domain that no other schedule is for.
	Domain string `toml:"domain" default:""`

	// Gaps between attempts; the last one repeats.
	Retry []Duration `toml:"retry" default:"" min:"1s"`

	// Age at which a message goes back to its sender; 0 is that of [queue].
	MaxAge Duration `toml:"max_age" default:"0"`

	// Connections at the same time at most; 0 is queue.concurrency_per_domain.
	Concurrency int `toml:"concurrency" default:"0" min:"0" max:"1000"`

	// Messages a minute at most; 0 is any number.
	Rate int `toml:"rate" default:"0" min:"0" max:"100000"`

	// Nothing is tried while this stands here, and nothing given up but what has a deadline.
	Hold bool `toml:"hold" default:"false"`
}

func (r *reader) checkSending(c *Config) {
	seen := map[string]int{}
	for i, s := range c.Queue.Schedule {
		key := element("queue.schedule", i)
		r.needed(key, "domain", s.Domain)
		if first, twice := seen[strings.ToLower(s.Domain)]; twice {
			r.fail(key+".domain", "%s is in queue.schedule[%d] already", s.Domain, first)
		}
		seen[strings.ToLower(s.Domain)] = i
		if name := strings.TrimPrefix(s.Domain, "."); name != "*" && strings.ContainsAny(name, "* @[]/:") {
			r.fail(key+".domain", "is a domain, a domain with a dot in front for those below it, or *")
		}
	}
	for i, b := range c.BackupMX {
		r.checkBackup(element("backup_mx", i), string(b.Domain), &c.Queue)
	}
	limited := map[string]int{}
	for i, l := range c.Submission.Limit {
		key := element("submission.limit", i)
		r.needed(key, "for", l.For)
		if first, twice := limited[strings.ToLower(l.For)]; twice {
			r.fail(key+".for", "%s is in submission.limit[%d] already", l.For, first)
		}
		limited[strings.ToLower(l.For)] = i
	}
}

// checkBackup refuses ways around the hosts that DNS prefers to this one: a relay takes
// everybody, so that everybody would seem to exist, and brings the mail back here.
func (r *reader) checkBackup(key, domain string, q *Queue) {
	r.needed(key, "domain", domain)
	if domain == "" {
		return
	}
	if q.Smarthost.Host != "" {
		r.fail(key, "does not go with queue.smarthost: mail for %s has to go to that domain's own host, and %s would send it back here", domain, q.Smarthost.Host)
	}
	if i := q.routeOf(domain); i >= 0 && q.Route[i].Host != "" {
		r.fail(key, "does not go with queue.route[%d].host: mail for %s has to go to that domain's own host, which DNS names; give %s a route without host", i, domain, domain)
	}
}

// routeOf is the index of the route for a domain, the closest one; -1 if there is none.
func (q *Queue) routeOf(domain string) int {
	is := func(name string) int {
		return slices.IndexFunc(q.Route, func(o Route) bool { return strings.EqualFold(o.Domain, name) })
	}
	if i := is(domain); i >= 0 {
		return i
	}
	for up := domain; ; {
		_, rest, below := strings.Cut(up, ".")
		if !below {
			return is("*")
		}
		if i := is("." + rest); i >= 0 {
			return i
		}
		up = rest
	}
}

// BackupMX is a domain whose own mail host is another one, for which this one keeps mail
// while that is down. DNS must name this host in an MX record of lower preference, and the
// mail must go where DNS says: not to a smarthost, nor by a route with a host.
type BackupMX struct {
	// Domain whose mail is kept.
	Domain Hostname `toml:"domain" default:""`

	// File with the addresses that exist there, one on a line, or "@" and the domain for all;
	// it is read again whenever it is needed. Empty has the domain's own host asked, whose
	// answers count for a week while it is down.
	Recipients Path `toml:"recipients" default:""`

	// Age at which mail for the domain goes back to its sender.
	MaxAge Duration `toml:"max_age" default:"14d" min:"1h"`
}
