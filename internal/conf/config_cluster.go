package conf

// Store chooses the engine.
type Store struct {
	// "pebble" keeps everything in the data folder; "postgres" in databases that several
	// machines (nodes) share.
	Engine string `toml:"engine" default:"pebble" oneof:"pebble|postgres"`

	// Connection string of the first database, "postgres://user:password@host1,host2/martlet";
	// of several hosts the one that may be written to is taken. Only for postgres.
	URL string `toml:"url" default:"" secret:"url"`

	// Memory for recently used records; 0 means 32MiB for pebble, 256MiB for postgres, where
	// each record that is not there is asked for over the network.
	Cache Size `toml:"cache" default:"0"`

	// Connections to each database at the most. Only for postgres.
	Connections int `toml:"connections" default:"16" min:"2" max:"1000"`

	// How long what is under way waits for a database that cannot be reached, say while
	// another takes over, before it fails; IMAP sessions are held meanwhile. Only for
	// postgres.
	Patience Duration `toml:"patience" default:"60s" min:"1s" max:"10m"`

	// How long a message that comes in waits for it before the sender is told to try again
	// later (451). One that was on its way into the database when the trouble began waits until
	// it is known whether it came to be, for about twice patience at the most. Only for postgres.
	DeliveryPatience Duration `toml:"delivery_patience" default:"5s" min:"0s" max:"10m"`
}

// Memory is how many bytes of recently used records an engine keeps: what the file says, or
// what is enough for this engine. Pebble has the file system's memory beside it. On postgres a
// busy account takes some megabytes, and where they do not fit all are read again in turn.
func (s *Store) Memory(engine string) int64 {
	switch {
	case s.Cache > 0:
		return int64(s.Cache)
	case engine == "postgres":
		return 256 << 20
	}
	return 32 << 20
}

// Blobs chooses where bodies are kept.
type Blobs struct {
	// "store" keeps message bodies in the store's own engine; "s3" keeps the large ones in an
	// object store, and needs [store] engine = "postgres".
	Engine string `toml:"engine" default:"store" oneof:"store|s3"`

	// Address of the object store: "https://s3.example.org" or "http://127.0.0.1:7070".
	Endpoint string `toml:"endpoint" default:""`

	// Region of the bucket, as the object store names it.
	Region string `toml:"region" default:"us-east-1"`

	// Bucket for the bodies; it must be there.
	Bucket string `toml:"bucket" default:""`

	// What names of objects begin with, so that several systems can share a bucket.
	Prefix string `toml:"prefix" default:"martlet/"`

	// Name of the key that may read, write, list and delete objects in the bucket.
	AccessKey string `toml:"access_key" default:""`

	// Secret that belongs to it.
	SecretKey string `toml:"secret_key" default:"" secret:"true"`

	// PEM file with the authorities that sign the object store's certificate; empty means
	// those of the system.
	CA Path `toml:"ca" default:""`

	// Parts of bodies over this size, as they are stored, become objects; smaller ones are
	// records. The store cuts bodies into parts of at most 64 KB, attachments of 47 KB.
	Over Size `toml:"over" default:"32KiB"`

	// Room on this node's disk for objects that were read or written lately; 0 keeps none.
	Cache Size `toml:"cache" default:"1GiB"`
}

// Cluster is about a store that several nodes share.
type Cluster struct {
	// Name of this node, which no other has and which stays; empty means the name of the
	// machine.
	Node string `toml:"node" default:""`

	// How long a node may be silent before others take over what only one does at a time:
	// its part of the queue, links, reports.
	Lease Duration `toml:"lease" default:"15s" min:"2s" max:"10m"`

	// How long a node that stops, or is drained, goes on serving while /readyz says that it
	// leaves: whoever spreads the clients over the nodes needs the time to see it. A stop takes
	// so much longer.
	Leave Duration `toml:"leave" default:"5s" min:"0s" max:"10m"`
}
