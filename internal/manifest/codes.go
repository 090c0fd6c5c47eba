package manifest

// The stable codes of faults in files. A code is never reused for another
// meaning; docs/codes.md is written from Codes.
const (
	CodeRead        = "DMSC100"
	CodeSyntax      = "DMSC101"
	CodeUnknown     = "DMSC102"
	CodeDuplicate   = "DMSC103"
	CodeType        = "DMSC104"
	CodeMissing     = "DMSC105"
	CodeValue       = "DMSC106"
	CodeUnit        = "DMSC107"
	CodeVersion     = "DMSC108"
	CodeKind        = "DMSC109"
	CodeName        = "DMSC110"
	CodeObject      = "DMSC111"
	CodeReference   = "DMSC112"
	CodeConflict    = "DMSC113"
	CodeAddress     = "DMSC114"
	CodeTooMany     = "DMSC115"
	CodeUnsupported = "DMSC116"
	CodeEmpty       = "DMSC117"
	CodePrefix      = "DMSC121"
)

// Codes lists every code with its meaning and what to do, in order.
var Codes = []struct{ Code, Meaning, Fix string }{
	{CodeRead, "the file or folder cannot be read", "check the path and its permissions"},
	{CodeSyntax, "the text is not valid YAML", "mend the line the message names; indent with spaces"},
	{CodeUnknown, "the field does not exist at this place", "mend the spelling, or move the field where it belongs"},
	{CodeDuplicate, "the same field or list item is given twice", "keep one of the two"},
	{CodeType, "the value has the wrong type", "write the type the message names; quote text that looks like a number"},
	{CodeMissing, "a required field is missing or empty", "add it"},
	{CodeValue, "the value is outside its range or grammar", "use a value the message allows"},
	{CodeUnit, "the value has no unit, or one that is unknown", "write the unit: 20ms, 100Mbps, 1%"},
	{CodeVersion, "apiVersion is not dmsc.io/v1alpha1", "write apiVersion: dmsc.io/v1alpha1"},
	{CodeKind, "the kind is unknown, or not the one expected here", "mend the kind, or give the file to the command it is for"},
	{CodeName, "metadata.name is missing or breaks the grammar", "use 1 to 63 of a-z 0-9 and -"},
	{CodeObject, "two documents have the same kind and name", "rename or remove one of them"},
	{CodeReference, "the value names something that is not declared", "declare it, or mend the name"},
	{CodeConflict, "two values contradict each other", "change one of the two the message names"},
	{CodeAddress, "two listeners have one address, or an address is malformed", "give each listener its own host:port"},
	{CodeTooMany, "a list or file is larger than the limit", "split it"},
	{CodeUnsupported, "the YAML feature is refused here (anchor, alias, tag, merge key)", "write the value out in place"},
	{CodeEmpty, "the folder holds no *.yaml or *.yml", "check the path"},
	{CodePrefix, "the service prefix breaks the grammar", "segments of a-z 0-9 - _ ~ . joined by single slashes, as in shop/cart/1"},
}
