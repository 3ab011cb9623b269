Rails.application.routes.draw do
  root "recipes#index"
  get "api/recipe", to: "recipes#show", defaults: { format: "json" }
  get "health", to: "health#show"
end
