package conf

// Reports says what other domains are told of their mail, and what becomes of what they tell
// ("martlet reports"): aggregate reports of DMARC and TLS reports. Reports of single messages
// are never sent.
type Reports struct {
	// Whether domains that ask for reports get them, once a day: who sent mail in their name
	// to this server, and whether mail from here could reach them over TLS.
	Send bool `toml:"send" default:"true"`

	// Name of whoever runs this server, as reports have it; empty means the domain of
	// contact.
	Organisation string `toml:"organisation" default:""`

	// Address that reports come from and that questions go to, of a domain of this server
	// whose mail is signed; empty means postmaster at the domain that the hostname lies in,
	// or else at the first domain. Without one that signs, nothing is sent: nobody would
	// believe it.
	Contact string `toml:"contact" default:""`

	// Time for which reports of others, and what is known of those that were sent, are kept.
	Keep Duration `toml:"keep" default:"400d" min:"1d"`

	// Whether reports of others that are verified and were read whole are only kept for
	// "martlet reports", and not put into the mailbox that they are addressed to, too.
	FileOnly bool `toml:"file_only" default:"false"`
}
