package conf

// Milter is an outside program that looks at mail, such as rspamd or clamav-milter. It is
// asked when a message is whole, in the order of these blocks, and may refuse it, change it,
// or have it put into Junk (quarantine).
type Milter struct {
	// Name of the program in logs and stories; empty means its address.
	Name string `toml:"name" default:""`

	// Where it listens: host:port, or the path of a socket.
	Address string `toml:"address" default:""`

	// Mail that it looks at: of other hosts ("smtp"), of people ("submission"), of other
	// programs here ("lmtp").
	Mail []string `toml:"mail" default:"smtp,submission"`

	// What becomes of mail while it does not answer: "defer" has its sender try again later,
	// "accept" lets it pass.
	WhenAway string `toml:"when_away" default:"defer" oneof:"defer|accept"`

	// Time for each of its answers.
	Timeout Duration `toml:"timeout" default:"30s" min:"1s"`
}

func (r *reader) checkMilters(all []Milter) {
	for i := range all {
		m, key := &all[i], element("milter", i)
		r.needed(key, "address", m.Address)
		if m.Name == "" {
			m.Name = m.Address
		}
		for _, kind := range m.Mail {
			if kind != "smtp" && kind != "submission" && kind != "lmtp" {
				r.fail(key+".mail", `%q is none of smtp, submission and lmtp`, kind)
			}
		}
	}
}
