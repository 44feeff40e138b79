# As NixOS declares it, for a checkout that has its library alone.
{ lib, ... }:
{
  options.meta = lib.mkOption {
    type = lib.types.submodule { freeformType = lib.types.attrsOf lib.types.unspecified; };
    default = { };
  };
}
