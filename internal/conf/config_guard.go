package conf

// Guard slows down hosts that nobody knows, on port 25. Trusted networks and people who have
// logged in never meet it.
type Guard struct {
	// Whom greylisting asks to come again the first time that he has mail for a sender and
	// a recipient: "off" nobody; "nameless" hosts whose address has no name that leads back
	// to it; "all" everybody. Programs that send junk often do not come again; first mail
	// of others is late by some minutes (RFC 6647).
	Greylist string `toml:"greylist" default:"off" oneof:"off|nameless|all"`

	// Time before which he comes too soon.
	GreylistDelay Duration `toml:"greylist_delay" default:"5m" min:"1s"`

	// Time after its last mail at which a host is a stranger again.
	GreylistKeep Duration `toml:"greylist_keep" default:"35d" min:"1d"`

	// Messages a minute that one IPv4 address or IPv6 /64 may bring; 0 is any number.
	MessagesPerAddress int `toml:"messages_per_address" default:"0" min:"0" max:"1000000"`

	// Messages a minute that one IPv4 /24 or IPv6 /48 may bring; 0 is any number.
	MessagesPerNetwork int `toml:"messages_per_network" default:"0" min:"0" max:"1000000"`

	// Time by which the answer to each refused command of a stranger is delayed, so that
	// trying out addresses takes long; 0 delays nothing. Each waiting stranger is one of
	// limits.connections.
	Tarpit Duration `toml:"tarpit" default:"0"`
}
