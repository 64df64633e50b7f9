package conf

// Migrate says how accounts log in that come from another server, with the hash of their
// password or without. What is moved from where is set for each domain: martlet domain set
// DOMAIN migrate-from=...
type Migrate struct {
	// Whether hashes that another server made are kept as they are. Else ours (argon2id, and
	// the keys that SCRAM needs) take their place at the first login with the password.
	KeepHashes bool `toml:"keep_hashes" default:"false"`

	// When SCRAM is offered: "auto" while there is no account whose password is known in
	// another server's form only, or is awaited from its first login: its owner's program could
	// choose SCRAM and fail; "always" to everybody; "never".
	Scram string `toml:"scram" default:"auto" oneof:"auto|always|never"`

	// PEM file with the authorities that sign the certificates of former servers; empty means
	// those of the system.
	CA Path `toml:"ca" default:""`

	// Passwords that former servers are asked about at the same time, over all of them.
	Parallel int `toml:"parallel" default:"8" min:"1" max:"100"`

	// Time in which a former server answers, or counts as one that cannot be reached.
	Timeout Duration `toml:"timeout" default:"20s" min:"1s" max:"2m"`

	// Mailboxes that are fetched from former servers at the same time after first logins.
	Pulls int `toml:"pulls" default:"2" min:"1" max:"50"`
}
