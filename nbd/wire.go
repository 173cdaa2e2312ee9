package nbd

// Numbers of the protocol, from its description (doc/proto.md of the NBD
// project). Everything on the wire is big-endian.
const (
	magicServer   uint64 = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption   uint64 = 0x49484156454f5054 // "IHAVEOPT"
	magicOptReply uint64 = 0x0003e889045565a9
	magicRequest  uint32 = 0x25609513
	magicSimple   uint32 = 0x67446698
	magicChunk    uint32 = 0x668e33ef
)

// Handshake flags, the same bits for both ends.
const (
	flagFixedNewstyle uint16 = 1 << 0
	flagNoZeroes      uint16 = 1 << 1
)

// Transmission flags that a server sends with an export, see [Client.Flags].
const (
	FlagHasFlags        uint16 = 1 << 0
	FlagReadOnly        uint16 = 1 << 1
	FlagSendFlush       uint16 = 1 << 2
	FlagSendFUA         uint16 = 1 << 3
	FlagSendTrim        uint16 = 1 << 5
	FlagSendWriteZeroes uint16 = 1 << 6
	FlagSendDF          uint16 = 1 << 7
	FlagMultiConn       uint16 = 1 << 8
	FlagSendCache       uint16 = 1 << 10
)

// Options of the handshake.
const (
	optExportName      uint32 = 1
	optAbort           uint32 = 2
	optList            uint32 = 3
	optInfo            uint32 = 6
	optGo              uint32 = 7
	optStructuredReply uint32 = 8
	optListMetaContext uint32 = 9
	optSetMetaContext  uint32 = 10
)

// Replies to options; those with the top bit are errors.
const (
	repAck         uint32 = 1
	repServer      uint32 = 2
	repInfo        uint32 = 3
	repMetaContext uint32 = 4

	repErrBit     uint32 = 1 << 31
	repErrUnsup          = repErrBit | 1
	repErrInvalid        = repErrBit | 3
	repErrUnknown        = repErrBit | 6
)

// Kinds of information about an export.
const (
	infoExport    uint16 = 0
	infoBlockSize uint16 = 3
)

// Commands.
const (
	cmdRead        uint16 = 0
	cmdWrite       uint16 = 1
	cmdDisconnect  uint16 = 2
	cmdFlush       uint16 = 3
	cmdTrim        uint16 = 4
	cmdCache       uint16 = 5
	cmdWriteZeroes uint16 = 6
	cmdBlockStatus uint16 = 7
)

// Flags of a command that mean something to us.
const (
	cmdFlagDF     uint16 = 1 << 2
	cmdFlagReqOne uint16 = 1 << 3
)

// Kinds of structured reply chunks; those with the top bit are errors.
const (
	chunkFlagDone uint16 = 1 << 0

	chunkNone        uint16 = 0
	chunkOffsetData  uint16 = 1
	chunkOffsetHole  uint16 = 2
	chunkBlockStatus uint16 = 5
	chunkErrBit      uint16 = 1 << 15
	chunkError              = chunkErrBit | 1
	chunkErrorOffset        = chunkErrBit | 2
)

// Limits. The protocol asks for at least these; more would only let a hostile
// peer make us hold more.
const (
	// maxString is the longest export name or context name.
	maxString = 4096
	// maxOptionData bounds what we read as one option or one reply to it.
	maxOptionData = 64 << 10
	// maxQueries bounds the contexts of one request.
	maxQueries = 64
	// maxPayload bounds the data of one request and one reply.
	maxPayload = 32 << 20
	// maxStatus is how many runs one answer about a disk's status holds.
	maxStatus = 4096
	// maxDiskBytes is the largest disk: offsets are int64, and sums of an
	// offset and a length must not overflow.
	maxDiskBytes = 1 << 62
)
