# As a framework of modules declares it whose users this one is for: `my.ai` as one option, of type
# submodule, with other programs in it that look for the proxy.
{ config, lib, ... }:
{
  options.my.ai = lib.mkOption {
    default = { };
    description = "AI infrastructure";
    type = lib.types.submodule {
      options = {
        enable = lib.mkOption {
          type = lib.types.bool;
          default = false;
        };
        openclaw.provider = lib.mkOption {
          type = lib.types.attrsOf lib.types.str;
          default = { };
        };
      };
    };
  };

  config.my.ai.openclaw.provider = lib.mkIf config.my.ai.claudeProxy.enable {
    inherit (config.my.ai.claudeProxy) baseUrl;
    modelId = config.my.ai.claudeProxy.model;
  };
}
