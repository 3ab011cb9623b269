require_relative "boot"

require "rails"
require "active_model/railtie"
require "action_controller/railtie"
require "action_view/railtie"
require "sprockets/railtie"

Bundler.require(*Rails.groups)

module Recipes
  NAME = "ruby-rails"
  VERSION = "1"

  class Application < Rails::Application
    config.load_defaults 6.1

    # Nothing is kept and nobody logs in, so a key that lasts as long as the process will do.
    config.secret_key_base = ENV["SECRET_KEY_BASE"] || SecureRandom.hex(64)
  end
end
