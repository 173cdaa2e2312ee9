package vmdk

import (
	"fmt"
	"slices"
)

// descriptor is the text that stands in the head of a stream, filled to whole
// sectors. The extent's name in it means nothing: the bytes follow in the stream.
func descriptor(capacity int64, o Options) ([]byte, error) {
	adapter := o.AdapterType
	if adapter == "" {
		adapter = "lsilogic"
	}
	if !slices.Contains([]string{"ide", "buslogic", "lsilogic"}, adapter) {
		return nil, fmt.Errorf("a VMDK knows no controller %q", o.AdapterType)
	}
	id := o.ContentID
	if id == 0 {
		id = 1
	}
	heads, perTrack := int64(255), int64(63)
	if adapter == "ide" {
		heads = 16
	}
	text := fmt.Sprintf(`# Disk DescriptorFile
version=1
CID=%08x
parentCID=ffffffff
createType="streamOptimized"

# Extent description
RW %d SPARSE "disk.vmdk"

# The Disk Data Base
#DDB

ddb.adapterType = %q
ddb.geometry.cylinders = "%d"
ddb.geometry.heads = "%d"
ddb.geometry.sectors = "%d"
ddb.virtualHWVersion = "13"
`, id, capacity, adapter, max(1, min(capacity/(heads*perTrack), 65535)), heads, perTrack)
	return append([]byte(text), make([]byte, descriptorSectors*sectorBytes-len(text))...), nil
}
